"""Products with parameters that modules of the user's own hold: layers that are written by hand.

`x @ self.weight + self.bias`, F.linear, einsum and F.conv2d are layers as nn.Linear and nn.Conv2d are. Which of a
parameter's dimensions belong to the units and which to what they are given is told by what it is multiplied with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradcheck_kit.observe.names import named_modules, named_parameters

MATRIX, OTHER, CONVOLUTION = "matrix", "other", "convolution"
_MATMUL = {"matmul", "mm", "bmm", "mv", "spmm", "sparse_mm"}
_CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}
_TRANSPOSED = {"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"}
_ADDITIONS = {"add", "radd", "iadd"}
_LISTS = (nn.ParameterList, nn.ParameterDict)
_KNOWN = (
    nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention,  # noqa: SLF001  # no public
    nn.Embedding, nn.EmbeddingBag, nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm,  # noqa: SLF001  # name
)  # fmt: skip


@dataclass(slots=True)
class Product:
    """The first product of one parameter with a signal: a layer's weights, what it was given and what it returned."""

    name: str  # of the parameter
    layer: str  # how a person would point at it: its module, where that has no other weights, else the parameter
    module: nn.Module
    parameter: nn.Parameter
    inputs: tuple[int, ...]  # the parameter's dimensions that are summed over
    outputs: tuple[int, ...]  # and those that stay: one unit for each of their elements
    kind: str  # MATRIX: over the last dimension of what it is given, and into the last; CONVOLUTION; OTHER
    direct: bool  # the parameter itself or a view of it, and nothing that was computed of it first
    given: Tensor
    returned: Tensor  # with the bias that is added to it, if any
    calls: int = 1

    def units_of(self, parameter: Tensor) -> Tensor:
        """The weights of every unit, shape (units, weights), of this parameter in any copy of the model."""
        units = math.prod(parameter.shape[d] for d in self.outputs)
        return parameter.permute(*self.outputs, *self.inputs).reshape(units, -1)


@dataclass(slots=True)
class _Known:
    """A tensor that is a parameter, or one of the same shape that was made of nothing else."""

    tensor: Tensor  # kept, so that its id stays its own
    name: str
    dims: tuple[int | None, ...]  # which dimension of the parameter each of the tensor's is
    direct: bool


def bare_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    """Parameters that modules of the user's own hold, by name; each once."""
    names = {id(p): name for name, p in named_parameters(model)}
    tied = {id(p) for m in model.modules() if isinstance(m, _KNOWN) for p in m.parameters(recurse=False)}
    for _, module in named_modules(model):
        if isinstance(module, _LISTS) or not type(module).__module__.startswith("torch."):
            for parameter in module.parameters(recurse=False):
                name = names.pop(id(parameter), None)
                if name is not None and id(parameter) not in tied and not nn.parameter.is_lazy(parameter):
                    yield name, module, parameter


class Products(TorchFunctionMode):
    """While it is entered, notes the products with bare parameters of two or more dimensions."""

    def __init__(self, model: nn.Module, noted: Callable[[Product], None] | None = None) -> None:
        super().__init__()
        self._noted = noted  # is called with each, in the order of their calls
        self.found: dict[str, Product] = {}
        self.given: list[Tensor] = []  # what any of them was given, in any call
        self._owners = {name: (module, p) for name, module, p in bare_parameters(model)}
        self._names = {id(module): name for name, module in named_modules(model)}
        self._own = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self._known = {
            id(p): _Known(p, name, tuple(range(p.ndim)), direct=True)
            for name, (_, p) in self._owners.items()
            if p.ndim > 1 and p.is_floating_point()
        }

    @property
    def expected(self) -> bool:
        """Whether there is any parameter that may be multiplied with."""
        return bool(self._known)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if isinstance(result, Tensor):
            with suppress(Exception):  # a tensor of the user's own kind: one operation less is seen, and none breaks
                self._watch(getattr(func, "__name__", "").strip("_"), args, kwargs, result)
        return result

    def _watch(self, name: str, args: Any, kwargs: dict[str, Any], result: Tensor) -> None:
        operands = _operands(name, args, kwargs)
        if operands is not None:
            self._note(operands, result)
            return
        if name in _ADDITIONS:
            self._add_bias(args, result)
        if not name.endswith("_like"):
            self._follow(args, result)

    def _note(self, operands: _Operands, result: Tensor) -> None:
        first, second = (self._known_as(operand.tensor) for operand in operands)
        if first is not None and second is not None:
            self._own[id(result)] = result  # LoRA's B @ A, which is added to a weight
        for known, own, other, other_known in (
            (second, operands[1], operands[0], first),
            (first, operands[0], operands[1], second),
        ):
            if known is None:
                continue
            inputs = [known.dims[d] for d in own.inputs]
            outputs = [known.dims[d] for d in own.outputs]
            dims = [d for d in (*inputs, *outputs) if d is not None]
            module, parameter = self._owners[known.name]
            # An expanded matrix has more dimensions than the parameter; a stack of matrices is no single layer.
            if sorted(dims) != list(range(parameter.ndim)) or not set(inputs) - {None} or not set(outputs) - {None}:
                continue
            if other_known is None and other.tensor.requires_grad:
                self.given.append(other.tensor)
            if known.name in self.found and (other_known is not None or not self._of_parameters(known.name)):
                self.found[known.name].calls += 1
                continue
            self.found.pop(known.name, None)
            self.found[known.name] = product = Product(
                name=known.name,
                layer=self._label(known.name, module),
                module=module,
                parameter=parameter,
                inputs=tuple(d for d in inputs if d is not None),
                outputs=tuple(d for d in outputs if d is not None),
                kind=own.kind,
                direct=known.direct,
                given=other.tensor,
                returned=result,
            )
            if self._noted is not None:
                self._noted(product)

    def _of_parameters(self, name: str) -> bool:
        """Whether the product that was noted is one of two parameters, as LoRA's, and says nothing of a signal."""
        return self._known_as(self.found[name].given) is not None

    def _label(self, name: str, module: nn.Module) -> str:
        layer = self._names[id(module)]
        weights = [p for p in module.parameters() if p.ndim > 1]
        return layer if layer and len(weights) == 1 and not isinstance(module, _LISTS) else name

    def _known_as(self, tensor: Tensor) -> _Known | None:
        """Which parameter a tensor is, or a view of; of W.T it is W with its dimensions turned."""
        known = self._known.get(id(tensor))
        if known is not None:
            return known
        base = tensor._base  # noqa: SLF001  # has no public name
        known = self._known.get(id(base)) if base is not None else None
        if known is None:
            return None
        dims = _dims_of_view(tensor, known.tensor)
        return None if dims is None else _Known(
            tensor, known.name, tuple(None if d is None else known.dims[d] for d in dims), known.direct
        )  # fmt: skip

    def _follow(self, args: Any, result: Tensor) -> None:
        """Scaled, masked or normalised, a parameter of the same shape is the layer's weights all the same."""
        if id(result) in self._known or result._base is not None:  # noqa: SLF001  # has no public name
            return
        tensors = [a for a in args if isinstance(a, Tensor)] if isinstance(args, tuple) else []
        known = [(t, k) for t in tensors if (k := self._known_as(t)) is not None]
        if len(known) != 1 or known[0][0].shape != result.shape or not result.is_floating_point():
            return
        if all(t is known[0][0] or t.numel() == 1 or id(t) in self._own for t in tensors):
            self._known[id(result)] = _Known(result, known[0][1].name, known[0][1].dims, direct=False)

    def _add_bias(self, args: Any, result: Tensor) -> None:
        tensors = [a for a in args if isinstance(a, Tensor)]
        if any(id(t) in self._own for t in tensors):
            for product in self.found.values():
                if any(t is product.returned for t in tensors) and result.shape == product.returned.shape:
                    product.returned = result


def products_of(model: nn.Module, forward: Callable[[], object]) -> dict[str, Product]:
    """Those of one forward pass without gradients, by the parameter's name; made only where there may be any."""
    products = Products(model)
    if not products.expected:
        return {}
    try:
        with torch.no_grad(), products:
            forward()
    except Exception:  # noqa: BLE001  # a forward that takes gradients itself: what was seen so far will do
        return products.found
    return products.found


# ---- which dimensions are summed over ----------------------------------------------------------------------------


@dataclass(slots=True)
class _Operand:
    """One of two tensors that are multiplied, and its dimensions from the other's view: summed over, and staying."""

    tensor: Tensor
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    kind: str


_Operands = tuple[_Operand, _Operand]


def _operands(name: str, args: Any, kwargs: dict[str, Any]) -> _Operands | None:
    """The two factors of a product, or None where it is none that is known."""
    if name == "einsum":
        return _of_einsum(args)
    tensors = [a for a in args if isinstance(a, Tensor)]
    if name == "linear":
        pair = _pair(tensors, kwargs, "input", "weight")
        return None if pair is None else _factors(pair[0], pair[1], turned=True)
    if name in _MATMUL or name == "rmatmul":
        pair = _pair(tensors, kwargs, "input", "other") or _pair(tensors, kwargs, "input", "mat2")
        return None if pair is None else _factors(*(pair if name != "rmatmul" else pair[::-1]))
    if name == "addmm":
        return _factors(*tensors[1:3]) if len(tensors) == 3 else None
    if name == "tensordot" and len(tensors) == 2:
        dims = kwargs.get("dims", args[2] if len(args) > 2 else 2)
        last = tensors[0].ndim - 1
        plain = dims == 1 or str(dims).replace("(", "[").replace(")", "]") in (f"[[{last}], [0]]", "[[-1], [0]]")
        return _factors(*tensors) if plain and tensors[1].ndim == 2 else None
    if name in _CONVOLUTIONS or name in _TRANSPOSED:
        pair = _pair(tensors, kwargs, "input", "weight")
        groups = kwargs.get("groups", args[6] if len(args) > 6 else 1)
        return None if pair is None or groups != 1 else _of_convolution(*pair, turned=name in _TRANSPOSED)
    return None


def _pair(tensors: list[Tensor], kwargs: dict[str, Any], *names: str) -> tuple[Tensor, Tensor] | None:
    given = [*tensors, *(kwargs[name] for name in names if isinstance(kwargs.get(name), Tensor))]
    return (given[0], given[1]) if len(given) > 1 else None


def _factors(first: Tensor, second: Tensor, *, turned: bool = False) -> _Operands:
    """Of `first @ second`, or of `first @ second.T`."""
    a, b = first.ndim, second.ndim
    rows, columns = (b - 2, b - 1) if not turned else (b - 1, b - 2)
    return (
        _Operand(first, (a - 1,), tuple(range(a - 1)), OTHER),
        _Operand(second, (rows,) if b > 1 else (0,), (*range(b - 2), columns) if b > 1 else (), MATRIX),
    )


def _of_convolution(signal: Tensor, weight: Tensor, *, turned: bool) -> _Operands:
    rest = tuple(range(2, weight.ndim))
    ins, outs = ((1, *rest), (0,)) if not turned else ((0, *rest), (1,))
    return _Operand(signal, (), (), OTHER), _Operand(weight, ins, outs, CONVOLUTION)


def _of_einsum(args: Sequence[Any]) -> _Operands | None:
    equation = args[0] if args and isinstance(args[0], str) else ""
    operands = args[1] if len(args) == 2 and isinstance(args[1], (list, tuple)) else args[1:]
    left, arrow, right = equation.replace(" ", "").replace("...", "").partition("->")
    terms = left.split(",")
    if not arrow or len(terms) != 2 or len(operands) != 2 or not all(isinstance(o, Tensor) for o in operands):
        return None

    def of(index: int) -> _Operand:
        own, other = terms[index], terms[1 - index]
        # With an ellipsis the letters are the last dimensions, or the first; of a weight they are all there are.
        inputs = tuple(d for d, letter in enumerate(own) if letter in other and letter not in right)
        outputs = tuple(d for d, letter in enumerate(own) if letter in right and letter not in other)
        last = len(inputs) == len(outputs) == 1 and other[-1:] == own[inputs[0]] and right[-1:] == own[outputs[0]]
        return _Operand(operands[index], inputs, outputs, MATRIX if last else OTHER)

    return of(0), of(1)


def _dims_of_view(view: Tensor, base: Tensor) -> tuple[int | None, ...] | None:
    """Which of the base's dimensions each of a view's is, by their strides; None for one that was added."""
    if view.layout is not torch.strided or base.layout is not torch.strided:
        return None
    left = list(range(base.ndim))
    found: list[int | None] = []
    for size, stride in zip(view.shape, view.stride(), strict=True):
        dim = next((d for d in left if base.stride(d) == stride and base.shape[d] >= size > 1), None)
        if dim is None and size > 1 and stride != 0:
            return None
        if dim is not None:
            left.remove(dim)
        found.append(dim)
    return tuple(found)
