"""What forward takes and returns, and how often its modules run: every form that people write."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

import gradcheck_kit as gk
from gradcheck_kit.errors import TargetError
from gradcheck_kit.facts import Training, Wiring

Named = namedtuple("Named", ["logits", "extra"])  # noqa: PYI024  # the old form is what people have


@dataclass
class Output:
    logits: torch.Tensor
    hidden: dict


class Net(nn.Module):
    """Two layers; how the output is wrapped is the case."""

    def __init__(self, wrap=lambda logits, hidden: logits, *, cut=False):
        super().__init__()
        self.a, self.b, self.wrap, self.cut = nn.Linear(8, 16), nn.Linear(16, 4), wrap, cut

    def forward(self, x):
        hidden = self.a(x).relu()
        logits = self.b(hidden.detach() if self.cut else hidden)
        return self.wrap(logits, hidden)


OUTPUTS = {
    "tuple": lambda logits, hidden: (logits, hidden),
    "list": lambda logits, hidden: [logits, None, hidden],
    "dict": lambda logits, hidden: {"logits": logits, "hidden": hidden},
    "dataclass": lambda logits, hidden: Output(logits, {"last": (hidden, [hidden])}),
    "named tuple": Named,
    "nested": lambda logits, hidden: {"logits": logits, "all": [{"deep": (hidden, "a name")}, 3]},
}


@pytest.mark.parametrize("form", OUTPUTS)
@pytest.mark.case("outputs that are tuples, dicts, data classes, named tuples, nested", "seen")
def test_an_output_of_any_form_is_healthy(form, healthy, blobs):
    report = healthy(Net(OUTPUTS[form]), blobs())
    assert [o.module for o in report.trace.facts[Training].outputs] == ["a", "b"]


@pytest.mark.parametrize("form", OUTPUTS)
def test_a_cut_gradient_is_found_behind_an_output_of_any_form(form, found, blobs):
    assert found(Net(OUTPUTS[form], cut=True), blobs()) == ["GK103"]


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.c, self.act = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4), nn.ReLU(inplace=True)

    def forward(self, x):
        x = self.act(self.a(x))
        y = self.b(x)
        y += x
        F.leaky_relu_(y)
        return self.c(y)


@pytest.mark.case("in-place activations, `x += y`", "seen, with the gradient of the value before the change")
def test_activations_and_additions_in_place_are_left_alone(healthy, blobs):
    report = healthy(InPlace(), blobs())
    outputs = {o.module: o for o in report.trace.facts[Training].outputs}
    assert outputs.keys() == {"a", "act", "b", "c"}
    assert all(g is not None and g > 0 for name in "abc" for g in outputs[name].gradient_rms)
    assert outputs["act"].gradient_rms[0] > 0


@pytest.mark.case("keyword-only inputs", "passed by name")
def test_inputs_that_are_keyword_only_are_passed_by_name(healthy, blobs):
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(8, 4)

        def forward(self, *, features, scale=1.0):
            return self.a(features) * scale

    batches = [{"features": x, "labels": y} for x, y in blobs()]
    healthy(Keyword(), batches)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
@pytest.mark.case("LSTM and GRU, packed sequences", "seen")
def test_recurrent_layers_take_packed_sequences(kind, cut, healthy, found, blobs):
    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = kind(2, 12, num_layers=2, batch_first=True, bidirectional=True)
            self.head = nn.Linear(24, 4)

        def forward(self, x, lengths):
            out, _ = self.rnn(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
            padded, _ = pad_packed_sequence(out, batch_first=True)
            mean = padded.sum(1) / lengths[:, None]
            return self.head(mean.detach() if cut else mean)

    batches = [(x.reshape(-1, 4, 2), torch.randint(2, 5, (len(x),)), y) for x, y in blobs()]
    if cut:
        assert found(Tagger(), batches) == ["GK103"]
    else:
        healthy(Tagger(), batches)


def test_a_batch_may_be_a_packed_sequence(healthy, blobs):
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.GRU(2, 12, batch_first=True), nn.Linear(12, 4)

        def forward(self, packed):
            assert isinstance(packed, PackedSequence)
            return self.head(self.rnn(packed)[1][-1])

    lengths = torch.tensor([4] * 16)
    healthy(Reader(), [(pack_padded_sequence(x.reshape(16, 4, 2), lengths, batch_first=True), y) for x, y in blobs()])


class Tied(nn.Module):
    """A shared module and a tied weight."""

    def __init__(self):
        super().__init__()
        self.embed, self.block, self.head = nn.Embedding(16, 12), nn.Linear(12, 12), nn.Linear(12, 16, bias=False)
        self.again = self.block
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        h = self.block(self.embed(tokens)).relu()
        return self.head(self.again(h))


@pytest.mark.case("tied weights, shared modules", "counted once")
def test_a_tied_weight_is_listed_once_and_a_shared_modules_calls_are_added_up(healthy):
    torch.manual_seed(0)
    tokens = torch.randint(0, 16, (64, 6))
    batches = list(zip(tokens.split(16), ((tokens * 3 + 1) % 16).split(16), strict=True))
    report = healthy(Tied(), batches, loss_fn=lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten()))
    wired = report.trace.facts[Wiring]
    assert [p.name for p in wired.parameters] == ["embed.weight", "block.weight", "block.bias"]
    assert {m.name: m.calls for m in wired.modules} == {"embed": 1, "block": 2, "head": 1}
    assert [p.name for p in report.trace.facts[Training].parameters] == [p.name for p in wired.parameters]
    assert report.trace.header.parameters == 16 * 12 + 12 * 12 + 12


class Functional(nn.Module):
    """Parameters that no module owns but the model itself."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 8) / 3)
        self.scale = nn.Parameter(torch.ones(()))
        self.rows = nn.ParameterList([nn.Parameter(torch.zeros(4))])
        self.named = nn.ParameterDict({"shift": nn.Parameter(torch.zeros(4))})

    def forward(self, x):
        return F.linear(x, self.weight) * self.scale + self.rows[0] + self.named["shift"]


@pytest.mark.case("parameters outside any layer, functional layers", "seen")
def test_parameters_outside_any_module_are_watched(healthy, blobs):
    model = Functional()
    report = healthy(model, blobs(), optimizer=torch.optim.Adam(model.parameters(), 1e-2))
    records = {p.name: p for p in report.trace.facts[Training].parameters}
    assert records.keys() == {"weight", "scale", "rows.0", "named.shift"}
    assert all(p.changed for p in records.values())


def test_a_parameter_of_the_model_itself_that_the_optimizer_lacks_is_found(found, blobs):
    model = Functional()
    left_out = [p for n, p in model.named_parameters() if n != "weight"]
    assert found(model, blobs(), optimizer=torch.optim.Adam(left_out, 1e-2))[0] == "GK201"


@pytest.mark.case("frozen parameters", "no finding")
def test_frozen_parameters_are_no_finding(healthy, blobs):
    model = Net()
    model.a.requires_grad_(False)
    report = healthy(model, blobs(), optimizer=torch.optim.Adam(model.b.parameters(), 1e-2))
    records = {p.name: p for p in report.trace.facts[Training].parameters}
    assert [records[n].trainable for n in ("a.weight", "b.weight")] == [False, True]
    assert records["a.weight"].changed is False


@pytest.mark.case("models frozen throughout", "one sentence, exit status 2")
def test_a_model_that_is_frozen_throughout_gets_one_sentence(scan, blobs):
    with pytest.raises(TargetError, match="Net has no trainable parameter: nothing can learn; set requires_grad=True"):
        scan(Net().requires_grad_(False), blobs())


@pytest.mark.case("modules that never run", "a warning")
def test_a_module_that_never_runs_is_a_warning_and_no_failure(scan, blobs):
    class Spare(Net):
        def __init__(self):
            super().__init__()
            self.spare = nn.Linear(3, 3)

    report = scan(Spare(), blobs())
    assert not report.failed
    (warning,) = report.of("warned")
    assert warning.rule.code == "GK103" and "spare never ran in forward" in warning.findings[0].message


@pytest.mark.parametrize("how", ["steps", "routes"])
@pytest.mark.case("modules that run as often as the data decides", "seen")
def test_modules_that_run_a_number_of_times_that_the_data_decides_are_healthy(how, healthy, blobs):
    class Looping(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.cell, self.head = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)
            self.experts = nn.ModuleList(nn.Linear(16, 16) for _ in range(3))

        def forward(self, x):
            h = self.start(x).relu()
            if how == "steps":
                for _ in range(1 + int(x.abs().sum() * 10) % 4):
                    h = h + self.cell(h).relu()
                return self.head(h)
            out = self.cell(h)
            route = (x[:, 0] > 1).long() + (x[:, 1] > 1).long()
            for i, expert in enumerate(self.experts):
                chosen = route == i
                if bool(chosen.any()):
                    out = out.index_add(0, chosen.nonzero()[:, 0], expert(h[chosen]))
            return self.head(out)

    model = Looping()
    if how == "steps":
        del model.experts
    healthy(model, blobs())


@pytest.mark.parametrize("reentrant", [False, True], ids=["plain", "reentrant"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "in DataParallel"])
@pytest.mark.case("activation checkpointing, both modes", "a call counts once")
def test_a_call_under_activation_checkpointing_is_counted_once(reentrant, wrapped, healthy, blobs):
    class Checkpointed(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)
            self.block = nn.Sequential(nn.Linear(16, 16), nn.ReLU(inplace=True), nn.Dropout(0.1), nn.Linear(16, 16))

        def forward(self, x):
            h = self.first(x).relu()
            return self.last(h + checkpoint(self.block, h, use_reentrant=reentrant))

    model = Checkpointed()
    report = healthy(nn.DataParallel(model) if wrapped else model, blobs())
    assert {m.name: m.calls for m in report.trace.facts[Wiring].modules}["block.0"] == 1
    outputs = {o.module: o for o in report.trace.facts[Training].outputs}
    assert all(g is not None and g > 0 for g in outputs["block.0"].gradient_rms)


def test_a_fault_inside_a_checkpointed_block_is_found(found, blobs):
    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.block, self.last = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)

        def forward(self, x):
            h = self.first(x)
            return self.last(checkpoint(lambda h: self.block(h).relu().detach(), h, use_reentrant=False))

    assert found(Cut(), blobs()) == ["GK103"]


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2


class Forgetful(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return None


@pytest.mark.parametrize(("function", "codes"), [(Double, []), (Forgetful, ["GK103"])])
@pytest.mark.case("`autograd.Function`", "seen")
def test_a_function_with_a_backward_of_the_users_own(function, codes, found, blobs):
    class Custom(Net):
        def forward(self, x):
            return self.b(function.apply(self.a(x).relu()))

    assert found(Custom(), blobs()) == codes


@pytest.mark.case("gradients of gradients in the loss", "seen")
def test_a_gradient_penalty_in_the_loss_is_healthy(healthy, blobs):
    def step(model, batch):
        x, y = batch
        x = x.clone().requires_grad_()
        out = model(x)
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=True)
        return F.cross_entropy(out, y) + 0.01 * slope.square().sum(1).mean()

    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    healthy(model, blobs(), loss_fn=None, training_step=step)


def test_a_model_that_differentiates_in_forward_is_healthy(healthy):
    class Energy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))

        def forward(self, x):
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                return torch.autograd.grad(self.net(x).sum(), x, create_graph=True)[0]

    torch.manual_seed(0)
    x = torch.randn(128, 3)
    batches = list(zip(x.split(16), (2 * x).split(16), strict=True))
    model = Energy()
    report = healthy(
        model, batches, loss_fn=nn.MSELoss(), optimizer=torch.optim.Adam(model.parameters(), 1e-2), steps=30
    )
    records = {p.name: p for p in report.trace.facts[Training].parameters}
    assert records["net.0.weight"].changed


@pytest.mark.case("`torch.func` in forward: vmap, grad, functional_call", "run; what is inside is not measured")
def test_functional_calls_vmap_and_grad_inside_forward_are_healthy(healthy, blobs):
    class Transformed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, x):
            weights = dict(self.a.named_parameters())
            h = vmap(lambda row: functional_call(self.a, weights, (row,)))(x)
            slopes = vmap(grad(lambda row: row.square().sum()))(h)
            return self.b(h.relu() + 0.1 * slopes)

    healthy(Transformed(), blobs())


@pytest.mark.case("FX graph modules", "seen")
def test_traced_graph_modules_are_healthy_and_keep_their_names(healthy, blobs):
    report = healthy(torch.fx.symbolic_trace(Net()), blobs())
    assert [p.name for p in report.trace.facts[Wiring].parameters] == ["a.weight", "a.bias", "b.weight", "b.bias"]


class Odd(nn.Module):
    """Attributes that make copying and walking hard: slots, properties that raise, itself, a __getattr__ of its own."""

    __slots__ = ("fast",)

    def __init__(self):
        super().__init__()
        self.a, self.b, self.fast = nn.Linear(8, 16), nn.Linear(16, 4), 3
        self.me = [self]
        self.lookup = {"layer": self.a, "weights": (self.b.weight,)}

    @property
    def device(self):
        raise RuntimeError("nobody may ask")

    def __getattr__(self, name):
        return super().__getattr__(name) if name != "hidden_size" else 16

    def forward(self, x):
        return self.b(self.lookup["layer"](x).relu())


def test_odd_attributes_are_healthy(healthy, blobs):
    model = Odd()
    healthy(model, blobs())
    assert model.fast == 3 and model.me[0] is model


@pytest.mark.case("models that cannot be deep-copied", "used in place, put back bit for bit")
def test_a_model_that_keeps_tensors_of_the_graph_is_used_in_place_and_comes_back(healthy, blobs):
    class Keeping(Net):
        def forward(self, x):
            self.last_hidden = self.a(x).relu()
            return self.b(self.last_hidden)

    model = Keeping()
    model(torch.randn(2, 8))
    kept = model.last_hidden
    healthy(model, blobs())
    assert model.last_hidden is kept


def test_a_fault_is_found_in_a_model_that_cannot_be_copied(found, blobs):
    model = Net(cut=True)
    model.cached = model.a(torch.randn(2, 8))
    assert found(model, blobs()) == ["GK103"]


@pytest.mark.case("your own hooks", "kept, in their order")
def test_the_users_own_hooks_are_kept_and_run_in_their_order(healthy, blobs):
    seen = []
    model = Net()
    model.a.register_forward_pre_hook(lambda *_: seen.append("pre") or None)
    model.a.register_forward_hook(lambda *_: seen.append("first") or None)
    model.a.register_forward_hook(lambda m, args, out: seen.append("second") or out * 1)
    model.a.register_forward_hook(lambda *_: seen.append("front") or None, prepend=True)
    model.b.register_full_backward_hook(lambda *_: seen.append("backward") or None)
    model.b.register_state_dict_pre_hook(lambda *_: None)
    healthy(model, blobs())
    assert len(seen) > 50 and len(seen) % 5 != 1
    forward = [word for word in seen if word != "backward"]
    assert forward == ["pre", "front", "first", "second"] * (len(forward) // 4)


def test_a_hook_of_the_users_that_cuts_the_gradient_is_found(found, blobs):
    model = Net()
    model.a.register_forward_hook(lambda m, args, out: out.detach())
    assert found(model, blobs()) == ["GK103"]


@pytest.mark.case("models on the meta device", "one sentence, exit status 2")
def test_a_model_on_the_meta_device_gets_one_sentence(scan, blobs):
    with torch.device("meta"):
        model = Net()
    with pytest.raises(TargetError, match="is on the meta device and has no values; build it on the CPU"):
        scan(model, blobs())


def test_a_model_without_any_parameter_gets_one_sentence(blobs):
    with pytest.raises(TargetError, match="has no trainable parameter"):
        gk.scan(nn.Sequential(nn.Flatten(), nn.ReLU()), blobs(), loss_fn=nn.CrossEntropyLoss())
