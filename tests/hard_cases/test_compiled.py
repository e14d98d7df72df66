"""Models that are not plain modules any more: compiled, scripted, parallel, parametrised, lazy, quantised."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from gradcheck_kit.errors import TargetError
from gradcheck_kit.facts import Training, Wiring


def mlp(activation=nn.ReLU):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), activation(), nn.Linear(16, 4))


class Cut(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.b(self.a(x).relu().detach())


class Parts(nn.Module):
    def __init__(self, backend="eager"):
        super().__init__()
        self.encoder = torch.compile(nn.Sequential(nn.Linear(8, 16), nn.ReLU()), backend=backend)
        self.head = nn.Linear(16, 4)
        self.same = self.encoder

    def forward(self, x):
        return self.head(self.encoder(x))


def names(report):
    return [p.name for p in report.trace.facts[Wiring].parameters], [
        o.module for o in report.trace.facts[Training].outputs
    ]


def note(report):
    return [text for text in report.trace.header.supplied if "probe ran" in text]


def failing_backend(graph, inputs):
    raise AssertionError("the probe must not compile")


@pytest.mark.parametrize("how", ["torch.compile", "in place", "called before"])
@pytest.mark.case("`torch.compile`, whole or in part", "the eager modules are probed")
def test_a_compiled_model_is_probed_as_the_eager_one_and_says_so(how, healthy, blobs):
    model = mlp()
    if how == "in place":
        model.compile(backend=failing_backend)
    else:
        model = torch.compile(model, backend="eager" if how == "called before" else failing_backend)
    if how == "called before":
        model(torch.randn(2, 8))
    before = dict(vars(model))
    report = healthy(model, blobs(), optimizer=torch.optim.Adam(model.parameters(), 1e-2))
    expected = ["0.weight", "0.bias", "2.weight", "2.bias"], ["0", "1", "2"]
    assert names(report) == expected
    assert note(report) == ["the model is compiled: the probe ran the eager modules, whose insides can be seen"]
    assert vars(model) == before


def test_compiled_parts_of_a_model_lose_their_wrappers_name(healthy, blobs):
    model = Parts(failing_backend)
    encoder = model.encoder
    report = healthy(model, blobs(), optimizer=torch.optim.Adam(model.parameters(), 1e-2))
    assert names(report) == (
        ["encoder.0.weight", "encoder.0.bias", "head.weight", "head.bias"],
        ["encoder.0", "encoder.1", "head"],
    )
    assert note(report) == ["encoder is compiled: the probe ran the eager modules, whose insides can be seen"]
    assert model.encoder is encoder is model.same


def test_a_compiled_model_without_data_is_not_compiled_either(healthy):
    healthy(Parts(failing_backend), loss_fn=None)


def test_a_compiled_model_that_cannot_be_copied_comes_back_compiled(healthy, blobs):
    model = Parts(failing_backend)
    model.head.compile(backend=failing_backend)
    model.cached = model.head.weight * 2
    kept = vars(model.head)["_compiled_call_impl"]
    report = healthy(model, blobs(), optimizer=torch.optim.Adam(model.parameters(), 1e-2))
    assert names(report)[1] == ["encoder.0", "encoder.1", "head"]
    assert vars(model.head)["_compiled_call_impl"] is kept


def test_a_function_that_forward_compiles_runs_as_it_was_written(healthy, blobs):
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)
            self.act = torch.compile(torch.relu, backend=failing_backend)

        def forward(self, x):
            return self.b(self.act(self.a(x)))

    healthy(Inner(), blobs())


def test_a_compiled_loss_goes_by_its_own_name(healthy, blobs):
    loss_fn = torch.compile(nn.CrossEntropyLoss(), backend=failing_backend)
    assert healthy(mlp(), blobs(), loss_fn=loss_fn).trace.header.loss == "CrossEntropyLoss"


def test_a_fault_is_found_in_a_compiled_model(found, blobs):
    assert found(torch.compile(Cut(), backend=failing_backend), blobs()) == ["GK103"]


def test_the_optimizer_of_a_compiled_model_is_the_eager_ones(found, blobs):
    model = torch.compile(mlp(), backend=failing_backend)
    optimizer = torch.optim.Adam([p for n, p in model.named_parameters() if "2." in n], 1e-2)
    assert found(model, blobs(), optimizer=optimizer)[0] == "GK201"


@pytest.mark.case("`nn.DataParallel`", "looked through")
def test_data_parallel_is_looked_through(healthy, blobs):
    report = healthy(nn.DataParallel(mlp()), blobs())
    assert names(report)[0] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert note(report) == ["the probe ran the module inside DataParallel, on one device"]


def test_a_training_step_that_reaches_into_data_parallel_finds_it(healthy, blobs):
    def step(model, batch):
        return nn.functional.cross_entropy(model.module[2](model.module[:2](batch[0])), batch[1])

    healthy(nn.DataParallel(mlp()), blobs(), loss_fn=None, training_step=step)


@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.case("ScriptModules", "run; what is inside is not seen")
def test_script_modules_are_healthy(how, healthy, blobs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its future
        model = torch.jit.script(mlp()) if how == "script" else torch.jit.trace(mlp(), torch.randn(2, 8))
    report = healthy(model, blobs(), optimizer=torch.optim.Adam(model.parameters(), 1e-2))
    assert names(report)[0] == ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_a_fault_is_found_in_a_script_module(found, blobs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.jit.script(Cut())
    assert found(model, blobs()) == ["GK103"]


PARAMETRIZED = {
    "spectral_norm": parametrizations.spectral_norm,
    "weight_norm": parametrizations.weight_norm,
    "orthogonal": parametrizations.orthogonal,
    "old weight_norm": nn.utils.weight_norm,
    "old spectral_norm": nn.utils.spectral_norm,
}


def parametrized(how):
    model = mlp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own: the old forms are deprecated
        PARAMETRIZED[how](model[0])
    return model


@pytest.mark.parametrize("how", PARAMETRIZED)
@pytest.mark.case("weight and spectral norm, both forms", "named as the layer")
def test_parametrized_layers_are_healthy_and_named_as_the_layer(how, healthy, blobs):
    model = parametrized(how)
    report = healthy(model, blobs(), optimizer=torch.optim.Adam(model.parameters(), 1e-2))
    records = report.trace.facts[Training].parameters
    assert len(records) == len(list(model.parameters()))
    assert {p.layer for p in records} == {"0", "2"}
    assert {p.layer_type for p in records} == {"Linear"} | {type(model[0]).__name__}
    assert [o.module for o in report.trace.facts[Training].outputs] == ["0", "1", "2"]


@pytest.mark.parametrize("how", ["weight_norm", "old weight_norm"])
def test_a_fault_in_a_parametrized_layer_names_the_layer(how, scan, blobs):
    model = parametrized(how)
    report = scan(model, blobs(), optimizer=torch.optim.Adam(model[2].parameters(), 1e-2))
    (cause, *_) = report.causes
    assert (cause.rule.code, cause.findings[0].where) == ("GK201", "0")


class Lazy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.head = nn.LazyConv1d(6, 3), nn.LazyBatchNorm1d(), nn.LazyLinear(4)

    def forward(self, x):
        return self.head(self.norm(self.conv(x)).relu().flatten(1))


@pytest.mark.case("lazy modules, with data", "get their shapes in a copy")
def test_lazy_modules_take_their_shapes_in_the_probes_copy_and_stay_lazy(healthy, blobs):
    model = Lazy()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    report = healthy(model, blobs(shape=(1, 8)), optimizer=optimizer)
    assert names(report)[1] == ["conv", "norm", "head"]
    assert "the model has lazy modules: the probe's copy took their shapes from the first batch" in (
        report.trace.header.supplied
    )
    assert all(nn.parameter.is_lazy(p) for p in model.parameters())
    assert all(p.changed for p in report.trace.facts[Training].parameters if p.is_weight)


def test_a_lazy_layer_that_the_optimizer_lacks_is_found(found, blobs):
    model = Lazy()
    optimizer = torch.optim.Adam(model.head.parameters(), 1e-2)
    assert found(model, blobs(shape=(1, 8)), optimizer=optimizer)[0] == "GK201"


def test_a_lazy_model_without_data_gets_one_sentence(scan):
    with pytest.raises(TargetError, match="has lazy modules whose shapes are not known yet; run one batch through it"):
        scan(Lazy())


class Quantizable(nn.Module):
    def __init__(self):
        super().__init__()
        self.quant, self.dequant = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()
        self.a, self.relu, self.b = nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)

    def forward(self, x):
        return self.dequant(self.b(self.relu(self.a(self.quant(x)))))


@pytest.fixture
def quantized():
    """Prepared for training, and converted. The engine that is chosen for it is put back."""
    engine = torch.backends.quantized.engine
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own: torch.ao is to move
        torch.backends.quantized.engine = "fbgemm" if "fbgemm" in torch.backends.quantized.supported_engines else engine
        model = Quantizable()
        model.qconfig = torch.ao.quantization.get_default_qat_qconfig(torch.backends.quantized.engine)
        trainable = torch.ao.quantization.prepare_qat(model.train())
        trainable(torch.randn(16, 8))
        int8 = torch.ao.quantization.convert(copy.deepcopy(trainable).eval())
        dynamic = torch.ao.quantization.quantize_dynamic(mlp(), {nn.Linear})
        yield {"trainable": trainable, "int8": int8, "dynamic": dynamic}
    torch.backends.quantized.engine = engine


@pytest.mark.case("quantization-aware training", "seen")
def test_a_model_prepared_for_quantization_aware_training_is_healthy(quantized, healthy, blobs):
    model = quantized["trainable"]
    healthy(model, blobs(), optimizer=torch.optim.Adam(model.parameters(), 1e-2))


@pytest.mark.parametrize("kind", ["int8", "dynamic"])
@pytest.mark.case("quantized models", "one sentence, exit status 2")
def test_a_quantized_model_gets_one_sentence(kind, quantized, scan, blobs):
    with pytest.raises(TargetError, match=r"has no trainable parameter: .*quantized.*scan the float model"):
        scan(quantized[kind], blobs())
