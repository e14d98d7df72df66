"""Whether a network is affine in its input: then its layers compute together what one layer could.

f is affine when f(ax + (1 - a)y) = a f(x) + (1 - a) f(y) for all x, y and a. In float64 that holds to the last few
bits or not at all, so a handful of random pairs decides it. Of indices it is the embeddings that are varied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradcheck_kit.experiments import WHOLE_STEP, NotApplicable, Probe
from gradcheck_kit.experiments.one_batch_fit import small_batch
from gradcheck_kit.facts import Linearity, Training
from gradcheck_kit.observe.names import named_modules
from gradcheck_kit.observe.products import CONVOLUTION, MATRIX, Product, Products, bare_parameters, products_of
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.layers import takes_hooks
from gradcheck_kit.target.outputs import prediction_of, tensors
from gradcheck_kit.target.workspace import Workspace, workspace

# A ReLU may be on one side for all samples of the data: far from them it is not.
SCALES = (1.0, 10.0, 1000.0)
EXACT = 1e-9  # of the outputs' differences: float64's rounding over many layers
_LAYERS = (nn.Linear, nn.modules.conv._ConvNd)  # noqa: SLF001  # the common base has no public name
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_LINKS = {
    "softmax": torch.softmax, "log_softmax": torch.log_softmax, "sigmoid": lambda x, _: torch.sigmoid(x),
    "tanh": lambda x, _: torch.tanh(x), "softplus": lambda x, _: nn.functional.softplus(x),
    "relu": lambda x, _: torch.relu(x),
}  # fmt: skip


@dataclass(slots=True)
class _Call:
    """The first call of a layer with weights."""

    name: str
    given: Tensor
    returned: Tensor
    trainable: bool
    convolution: bool
    bare: bool = False  # a product with a parameter, that a module of the user's own makes itself
    one_axis: bool = True  # given and returned along the last dimension, or by a convolution


def look_at_linearity(probe: Probe) -> Linearity:
    """Affine or not and, where it is, the layers that follow each other."""
    prepared = probe.prepared
    training = probe.facts.get(Training)
    inner = [a for a in training.activations if not a.is_output] if training is not None else []
    if inner:
        return Linearity(False, len(inner), 0, None, "", (), ())
    if prepared.task.training_step is not None:
        raise NotApplicable(f"{WHOLE_STEP}, so it does not say what the model's input is")
    known = sum(isinstance(module, _LAYERS) for module in prepared.model.modules())
    if known + sum(p.ndim > 1 for _, _, p in bare_parameters(prepared.model)) < 2:
        raise NotApplicable("the model has fewer than two layers with a weight matrix")
    with workspace(prepared, seed=prepared.settings.seed) as work:
        batch = small_batch(work.to_device(next(endless(prepared.train))))
        args, kwargs, _ = work.task.form.split(batch)
        given = tensors((args, kwargs))
        embeddings = any(isinstance(module, _EMBEDDINGS) for module in work.model.modules())
        if not any(t.is_floating_point() for t in given) and not (given and embeddings):
            raise NotApplicable("the inputs are not real numbers")
        work.model.eval()
        work.task = replace(work.task, precision=None)
        try:
            found = _look(work, (args, kwargs))
        except NotApplicable:
            raise
        except Exception:  # noqa: BLE001  # a model may insist on its own type or on inputs of its own kind
            raise NotApplicable("the model does not take other inputs, or none in float64") from None
    return found


def _look(work: Workspace, inputs: Any) -> Linearity:
    rough = _deviation(work, inputs, torch.float32, 1.0)[0]
    if not rough <= 1e-3:
        return Linearity(False, 0, 1, rough, "", (), ())
    work.model.double()
    worst, link = 0.0, ""
    for scale in SCALES:
        deviation, link = _deviation(work, inputs, torch.float64, scale)
        worst = max(worst, deviation)
    if not worst <= EXACT:
        return Linearity(False, 0, len(SCALES), worst, link, (), ())
    chain, widths = _chain(work, inputs)
    if not chain and _unseen(work, inputs):
        raise NotApplicable("the model is affine, and how its own weight matrices follow each other is not seen")
    return Linearity(True, 0, len(SCALES), worst, link, chain, widths)


def _deviation(work: Workspace, inputs: Any, dtype: torch.dtype, scale: float) -> tuple[float, str]:
    """How far outputs are from affine, over the largest difference of outputs; and the function after the last layer.

    Infinite where no output is finite. Raises NotApplicable where the output is the same for all inputs.
    """

    def near(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        values = tensor.to(dtype)
        spread = values.std() if values.numel() > 1 else values.abs().mean()
        return values + scale * (spread + 1e-3) * torch.randn_like(values)

    def between(x: Any, y: Any) -> Any:
        return 1.7 * x - 0.7 * y if isinstance(x, Tensor) and x.is_floating_point() else x

    first, second = pytree.tree_map_only(Tensor, near, inputs), pytree.tree_map_only(Tensor, near, inputs)
    third = pytree.tree_map(between, first, second)
    outputs, links = [], set()
    drawn: list[list[Tensor]] = [[], []]  # what embeddings returned in the first pass and in the second

    def draw(turn: int, value: Tensor) -> Tensor:
        if turn == 2:
            return torch.as_tensor(between(drawn[0].pop(0), drawn[1].pop(0)))
        drawn[turn].append(near(value))
        return drawn[turn][-1]

    with torch.no_grad():
        for turn, given in enumerate((first, second, third)):
            with _embeddings_through(work.model, partial(draw, turn)):
                output, link = _before_link(work, given)
            outputs.append(output)
            links.add(link)
    x, y, z = outputs
    size = float((x - y).abs().max())
    if size == 0:
        raise NotApplicable("the output does not depend on the input")
    if len(links) > 1 or not math.isfinite(size):
        return math.inf, ""
    return float((z - between(x, y)).abs().max()) / size, links.pop()


@contextmanager
def _embeddings_through(model: nn.Module, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """While it is open, embeddings return what `change` makes of it."""
    handles = [
        module.register_forward_hook(lambda _module, _args, output: change(output))
        for module in model.modules()
        if isinstance(module, _EMBEDDINGS) and takes_hooks(module)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _before_link(work: Workspace, inputs: Any) -> tuple[Tensor, str]:
    """The output; or, where it is a known function of what the last layer returned, that and the function's name."""
    with _calls(work.model) as calls:
        args, kwargs = inputs
        output = prediction_of(work.model(*args, **kwargs))
    if output is None:
        raise NotApplicable("the model returns no tensor")
    if calls:
        last = list(calls.values())[-1].returned
        if last.numel() == output.numel():
            for name, link in _LINKS.items():
                for dim in {1, last.ndim - 1} if last.ndim > 1 else ():
                    if torch.equal(link(last, dim).reshape(output.shape), output):
                        return last, name
    return output, ""


@contextmanager
def _calls(model: nn.Module) -> Iterator[dict[str, _Call]]:
    """The first call of each layer with weights that is seen while it is open, by the order of their ends.

    Parameters that are multiplied with each other, or at every step of a loop, are no layers that follow each other.
    """
    calls: dict[str, _Call] = {}
    handles = []

    def note_product(product: Product) -> None:
        calls.pop(product.layer, None)
        convolution = product.kind == CONVOLUTION
        calls[product.layer] = _Call(
            product.layer, product.given, product.returned, product.parameter.requires_grad, convolution,
            bare=True, one_axis=convolution or product.kind == MATRIX,
        )  # fmt: skip

    products = Products(model, note_product)
    for name, module in named_modules(model):
        if isinstance(module, _LAYERS) and takes_hooks(module):

            def note(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
                if args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
                    trainable = all(p.requires_grad for p in module.parameters())
                convolution = not isinstance(module, nn.Linear)
                calls.setdefault(name, _Call(name, args[0], output, trainable, convolution))

            handles.append(module.register_forward_hook(note))
    try:
        with products if products.expected else nullcontext():
            yield calls
    finally:
        for handle in handles:
            handle.remove()
    for product in products.found.values():
        calls[product.layer].returned = product.returned
        if product.calls > 1:
            del calls[product.layer]


def _chain(work: Workspace, inputs: Any) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Trainable layers of which each feeds the next, by autograd's graph, and the widths between them."""
    sources: list[Tensor] = []

    def source(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        sources.append(tensor.detach().double().requires_grad_())
        return sources[-1].clone()  # which a forward may change in place

    args, kwargs = pytree.tree_map_only(Tensor, source, inputs)
    with _embeddings_through(work.model, source), _calls(work.model) as calls:
        work.model(*args, **kwargs)
    chain: list[_Call] = []
    for call in calls.values():
        if not call.trainable or not call.one_axis:
            continue
        if call.bare and not any(_feeds(given, call.given) for given in sources):
            continue  # factors that are multiplied with each other first
        if not chain or _follows(chain[-1], call):
            chain.append(call)
    if len(chain) < 2:
        return (), ()
    ends = [chain[0].given, *(call.returned for call in chain)]
    return tuple(call.name for call in chain), tuple(_width(chain, tensor) for tensor in ends)


def _unseen(work: Workspace, inputs: Any) -> bool:
    """Whether a module of the user's own holds a matrix that is multiplied with in a way that is not known."""
    args, kwargs = pytree.tree_map_only(Tensor, lambda t: t.double() if t.is_floating_point() else t, inputs)
    products = products_of(work.model, lambda: work.model(*args, **kwargs))
    return any(p.ndim > 1 and p.requires_grad and n not in products for n, _, p in bare_parameters(work.model))


def _follows(first: _Call, second: _Call) -> bool:
    """Whether a layer is fed by another, and over the same dimension: over rows and then columns is a factorisation."""
    if not _feeds(first.returned, second.given):
        return False
    if first.convolution or second.convolution or first.returned.shape[-1] == 1:
        return True
    for position in (0, -1):
        one = second.given[(position,) * (second.given.ndim - 1)].sum()
        gradient = torch.autograd.grad(one, first.returned, retain_graph=True)[0]
        features = int((gradient.flatten(0, -2) != 0).any(0).sum()) if gradient.ndim > 1 else gradient.numel()
        if features:
            return features > 1
    return False


def _feeds(output: Tensor, given: Tensor) -> bool:
    if not given.requires_grad:
        return False
    return torch.autograd.grad(given.sum(), output, retain_graph=True, allow_unused=True)[0] is not None


def _width(chain: list[_Call], tensor: Tensor) -> int:
    """Features, where all layers are linear ones, which may be applied at many places; else numbers per sample."""
    if not any(call.convolution for call in chain):
        return tensor.shape[-1]
    return tensor[0].numel()
