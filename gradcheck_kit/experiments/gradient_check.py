"""Backward against central differences: of every custom autograd.Function on what it was given, and of the loss."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils import _pytree as pytree

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.one_batch_fit import small_batch
from gradcheck_kit.facts import FunctionCheck, GradientCheck
from gradcheck_kit.observe.module_stack import ModuleStack, source_line
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.workspace import Workspace, seed_everything, workspace

STEP = 1e-6  # of the direction's scale: the cube root of float64's epsilon, where central differences are best
DIRECTIONS = 3
ELEMENTS = 24  # whose own derivative is taken where a direction disagrees
MOST_FUNCTIONS = 8
LARGEST = 1_000_000  # elements of one argument
WRONG = 1e-4  # above it the single elements are looked at; the rule has its own limit
NONE_RAN = "no custom autograd.Function ran, and autograd's own gradients are right by construction"
KINK = 1e-2  # one-sided differences that differ by more say that there is a kink between


@dataclass(slots=True)
class Use:
    """One call of a custom function: where, and what it was given."""

    function: type[Function]
    module: str
    module_type: str
    source: str
    args: tuple[Any, ...]


def check_gradients(probe: Probe) -> GradientCheck:
    """Compare what backward returns with what the forward does. Raises NotApplicable without a custom function.

    Everything else is autograd's own arithmetic: it is right by construction, and where it differs from finite
    differences (detach, no_grad, straight-through estimators) somebody meant it.
    """
    prepared = probe.prepared
    seed = prepared.settings.seed
    if not any(_own(function) for function in _subclasses(Function)):
        raise NotApplicable(NONE_RAN)
    with workspace(prepared, seed=seed) as work:
        batch = work.to_device(next(endless(prepared.train)))
        _, loss = work.step(batch)
        functions = custom_functions(loss)
        if not functions:
            raise NotApplicable(NONE_RAN)
        seed_everything(seed)
        batch = small_batch(batch)
        try:
            uses = _uses(work, batch, functions)
        except Exception:  # noqa: BLE001  # a model may want the whole batch
            uses = _uses(work, work.to_device(next(endless(prepared.train))), functions)
        checks = tuple(_check(use, seed) for use in uses)
    wrong = any(check.relative_error is not None and not check.relative_error <= WRONG for check in checks)
    return GradientCheck(_loss_error(probe) if wrong else None, checks)


# ---- which functions ran -----------------------------------------------------------------------------------------


def _own(function: type[Any]) -> bool:
    return not function.__module__.startswith("torch.")


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for below in kind.__subclasses__():
        yield below
        yield from _subclasses(below)


def custom_functions(loss: Tensor) -> list[type[Function]]:
    """The user's own autograd.Functions in the graph of a loss, each once; torch's own are left out."""
    found: dict[type[Function], None] = {}
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        function = getattr(node, "_forward_cls", None)
        if isinstance(function, type) and _own(function):
            found[function] = None
        waiting += [following for following, _ in node.next_functions]
    return [*found][:MOST_FUNCTIONS]


def _uses(work: Workspace, batch: Any, functions: Sequence[type[Function]]) -> list[Use]:
    """The first call of each function, with copies of its arguments."""
    stack, uses = ModuleStack(work.model), dict[type[Function], Use]()
    modules = {name: type(module).__name__ for name, module in work.model.named_modules()}

    def note(function: type[Function], args: tuple[Any, ...]) -> None:
        if function not in uses:
            module = stack.name() if stack.running else "loss"
            kind = modules[module] if stack.running else ""
            uses[function] = Use(function, module, kind, source_line(), _copies(args))

    with ExitStack() as watches:
        watches.enter_context(stack.watch())
        for function in functions:
            watches.enter_context(_noting(function, note))
        work.step(batch)
    return [*uses.values()]


@contextmanager
def _noting(function: type[Function], note: Callable[[type[Function], tuple[Any, ...]], None]) -> Iterator[None]:
    """Note what the function's forward is given. It is looked up at every call; `apply` may have been kept aside."""
    kept = vars(function).get("forward")
    original = function.forward
    with_context = function.setup_context is Function.setup_context

    def forward(*args: Any, **kwargs: Any) -> Any:
        note(function, args[1:] if with_context else args)
        return original(*args, **kwargs)

    function.forward = staticmethod(forward)  # type: ignore[method-assign]
    try:
        yield
    finally:
        if kept is None:
            del function.forward
        else:
            function.forward = kept  # type: ignore[method-assign]


def _copies(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.detach().clone().requires_grad_(a.requires_grad) if isinstance(a, Tensor) else a for a in args)


# ---- one function ------------------------------------------------------------------------------------------------


class _LeftOutError(Exception):
    """Why a function is not compared, as a clause."""


def _check(use: Use, seed: int) -> FunctionCheck:
    check = FunctionCheck(
        use.function.__name__, use.module, use.module_type, use.source, argument="", relative_error=None, factor=None,
        ignores_upstream=False, left_out="",
    )  # fmt: skip
    try:
        return _Comparison(use, seed).result(check)
    except _LeftOutError as reason:
        return replace(check, left_out=str(reason))
    except Exception as error:  # noqa: BLE001  # written for one device or precision: no verdict
        return replace(check, left_out=f"it does not run in float64 ({type(error).__name__})")


class _Comparison:
    """Backward and differences of one function, as a scalar: its outputs weighed with one random gradient."""

    def __init__(self, use: Use, seed: int) -> None:
        self.use, self.seed = use, seed
        self.args = [a.double() if isinstance(a, Tensor) and a.is_floating_point() else a for a in use.args]
        self.places = [i for i, a in enumerate(use.args) if isinstance(a, Tensor) and a.requires_grad]
        if any(isinstance(a, Tensor) and a.is_complex() for a in self.args):
            raise _LeftOutError("it takes complex numbers")
        if any(isinstance(a, Tensor) and a.numel() > LARGEST for a in self.args):
            raise _LeftOutError("its arguments are large")
        self.generator = torch.Generator().manual_seed(seed)
        plain = self.run(self.args)
        if any(t.dtype is not torch.float64 for t in plain):
            raise _LeftOutError("it computes in float32")
        if not all(bool(t.isfinite().all()) for t in plain):
            raise _LeftOutError("its output is not finite")
        if not _same(plain, self.run(self.args)):
            raise _LeftOutError("it returns something else at every call")
        given = [a for a in self.args if isinstance(a, Tensor)]
        if any(t.shape == a.shape and torch.equal(t, a) for t in plain for a in given):
            raise _LeftOutError("its forward returns what it is given, so that its backward is all that it is for")
        for i, a in enumerate(self.args):
            if i not in self.places and isinstance(a, Tensor) and a.is_floating_point() and a.numel():
                other = [*self.args]
                other[i] = a * (1 + 0.1 * self.noise(a)) + 0.1 * self.noise(a)
                if _same(plain, self.run(other)):
                    raise _LeftOutError("it takes a tensor that only its backward uses")
        self.scalar = len(plain) == 1 and plain[0].numel() == 1
        self.upstream = [torch.ones_like(t) if self.scalar else self.noise(t) for t in plain]

    def noise(self, like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=self.generator, dtype=torch.float64).to(like.device)

    def run(self, args: Sequence[Any], *, graph: bool = False) -> list[Tensor]:
        """The outputs that have a gradient; without `graph` only their values."""
        seed_everything(self.seed)
        # Copies that are no leaves: a function may write into what it is given.
        own = [a.detach().clone().requires_grad_(i in self.places) if isinstance(a, Tensor) else a
               for i, a in enumerate(args)]  # fmt: skip
        self.leaves = [own[i] for i in self.places]
        with torch.enable_grad():
            outputs = pytree.tree_leaves(
                self.use.function.apply(*(a.clone() if isinstance(a, Tensor) else a for a in own))
            )
        found = [t for t in outputs if isinstance(t, Tensor) and t.requires_grad and t.is_floating_point()]
        return found if graph else [t.detach().clone() for t in found]

    def value(self, args: Sequence[Any]) -> float:
        return sum(float((g * t).sum()) for g, t in zip(self.upstream, self.run(args), strict=True))

    def gradients(self, factor: float = 1.0, *, other: Sequence[Tensor] | None = None) -> list[Tensor | None]:
        """What backward returns for each input, for the random gradient times `factor`."""
        outputs = self.run(self.args, graph=True)
        upstream = [g * factor for g in (other or self.upstream)]
        return list(torch.autograd.grad(outputs, self.leaves, upstream, allow_unused=True))

    def result(self, check: FunctionCheck) -> FunctionCheck:
        found = self.gradients()
        ignores = not self.scalar and self._ignores_upstream(found)
        if not self.scalar and not ignores and not self._linear(found):
            raise _LeftOutError("its backward is not linear: it shapes gradients on purpose")
        worst = check
        for place, gradient in zip(self.places, found, strict=True):
            error, factor = self._compare(place, gradient)
            if worst.relative_error is None or (error is not None and not error <= worst.relative_error):
                worst = replace(worst, argument=self._name(place), relative_error=error, factor=factor)
        if worst.relative_error is None:
            raise _LeftOutError("there is a kink in every direction")
        return replace(worst, ignores_upstream=ignores and worst.relative_error > WRONG)

    def _name(self, place: int) -> str:
        names = list(inspect.signature(self.use.function.forward).parameters)
        if self.use.function.setup_context is Function.setup_context:
            names = names[1:]
        return names[place] if place < len(names) else f"argument {place + 1}"

    def _ignores_upstream(self, found: Sequence[Tensor | None]) -> bool:
        other = self.gradients(other=[self.noise(g) for g in self.upstream])
        return _all_close(found, other) and any(g is not None and bool(g.any()) for g in found)

    def _linear(self, found: Sequence[Tensor | None]) -> bool:
        negative, half = self.gradients(-1.0), self.gradients(0.5)
        third = [self.noise(g) for g in self.upstream]
        both = self.gradients(other=[g + h for g, h in zip(self.upstream, third, strict=True)])
        alone = self.gradients(other=third)
        apart = [None if a is None or b is None else a + b for a, b in zip(found, alone, strict=True)]
        return (
            _all_close(found, [None if g is None else -g for g in negative])
            and _all_close(found, [None if g is None else g * 2 for g in half])
            and _all_close(both, apart)
        )

    def _compare(self, place: int, gradient: Tensor | None) -> tuple[float | None, float | None]:
        """The relative error along random directions and, where it is one, the constant factor between the two.

        Raises _LeftOutError for surrogates: where the forward is flat, whatever backward returns is on purpose.
        """
        pairs = []
        for _ in range(DIRECTIONS):
            direction = self.noise(self.args[place])
            difference = self._difference(place, direction)
            analytic = 0.0 if gradient is None else float((gradient * direction).sum())
            if difference is not None:
                pairs.append((analytic, difference))
        if gradient is None or not bool(gradient.any()):
            return (0.0 if pairs else None), None  # a gradient that is stopped is no wrong one
        if pairs and max(abs(n) for _, n in pairs) == 0:
            raise _LeftOutError("its forward is flat and its backward a surrogate")
        if not pairs:
            return None, None
        error = _relative(pairs)
        if not error <= WRONG:
            self._look_at_elements(place, gradient)
        factors = [a / n for a, n in pairs if n]
        alike = factors and max(factors) - min(factors) <= 1e-3 * max(map(abs, factors))
        return error, factors[0] if alike else None

    def _look_at_elements(self, place: int, gradient: Tensor) -> None:
        """Compare single elements, and leave out a function that differs only where it is flat, or by chance."""
        order = gradient.reshape(-1).abs().argsort(descending=True)
        chosen = torch.randperm(len(order), generator=self.generator)[: ELEMENTS // 2].to(order.device)
        elements = torch.cat([order[: ELEMENTS // 2], chosen]).unique().tolist()
        differing = flat = 0
        for element in elements:
            direction = torch.zeros_like(self.args[place]).reshape(-1)
            direction[element] = 1.0
            difference = self._difference(place, direction.view_as(gradient))
            analytic = float(gradient.reshape(-1)[element])
            if difference is None or _relative([(analytic, difference)]) <= WRONG:
                continue
            differing += 1
            flat += difference == 0
        if differing == flat:
            raise _LeftOutError("its backward differs only where its forward is flat: a surrogate")

    def _difference(self, place: int, direction: Tensor) -> float | None:
        """The central difference of the weighed outputs; None where the two one-sided ones tell of a kink."""
        base = self.args[place]
        step = STEP * max(1e-3, float(base.abs().max())) / max(1e-30, float(direction.abs().max()))

        def at(offset: float) -> float:
            args = [*self.args]
            args[place] = base + offset * direction
            return self.value(args)

        middle, above, below = at(0.0), at(step), at(-step)
        return _central(middle, above, below, step)


def _central(middle: float, above: float, below: float, step: float) -> float | None:
    right, left = (above - middle) / step, (middle - below) / step
    # What float64 cannot resolve is no kink.
    rounding = 1e-14 * max(abs(middle), abs(above), abs(below)) / step
    if not all(map(math.isfinite, (right, left))) or abs(right - left) > KINK * max(abs(right), abs(left)) + rounding:
        return None
    return (above - below) / (2 * step)


def _relative(pairs: Sequence[tuple[float, float]]) -> float:
    """The norm of the differences over the larger of both norms (dimensionless, as CS231n has it)."""
    off = math.hypot(*(a - n for a, n in pairs))
    size = max(math.hypot(*(a for a, _ in pairs)), math.hypot(*(n for _, n in pairs)))
    return off / size if size > 0 else 0.0


def _same(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _all_close(one: Sequence[Tensor | None], other: Sequence[Tensor | None]) -> bool:
    return all(
        (a is None and b is None) or (a is not None and b is not None and torch.allclose(a, b, rtol=1e-6, atol=1e-12))
        for a, b in zip(one, other, strict=True)
    )


# ---- the loss ----------------------------------------------------------------------------------------------------


def _loss_error(probe: Probe) -> float | None:
    """The relative error of the loss's gradient in the parameters, in float64; None where it cannot be told."""
    prepared = probe.prepared
    seed = prepared.settings.seed
    try:
        with workspace(prepared, seed=seed) as work:
            work.task = replace(work.task, precision=None)
            batch = pytree.tree_map(
                lambda t: t.double() if isinstance(t, Tensor) and t.is_floating_point() else t,
                small_batch(work.to_device(next(endless(prepared.train)))),
            )
            for module in (work.model, work.task.loss_fn):
                if isinstance(module, torch.nn.Module):
                    module.double()
            return _along_directions(work, batch, seed)
    except Exception:  # noqa: BLE001  # made for one precision, or for whole batches: the functions are compared anyway
        return None


def _along_directions(work: Workspace, batch: Any, seed: int) -> float | None:
    trained = [p for p in work.parameters() if p.requires_grad]

    def loss() -> Tensor:
        seed_everything(seed)
        return work.step(batch)[1]

    work.clear_gradients()
    first = loss()
    first.backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad.to_dense().clone() for p in trained]
    generator = torch.Generator().manual_seed(seed)
    pairs = []
    with torch.no_grad():
        kept = [p.clone() for p in trained]
        for _ in range(DIRECTIONS):
            directions = [torch.randn(p.shape, generator=generator, dtype=torch.float64).to(p.device) for p in trained]
            values = []
            for offset in (0.0, STEP, -STEP):
                for parameter, was, direction in zip(trained, kept, directions, strict=True):
                    parameter.copy_(was + offset * direction)
                values.append(float(loss()))
            if values[0] != float(first):
                return None  # a loss that is not a function of parameters and batch
            difference = _central(values[0], values[1], values[2], STEP)
            if difference is not None:
                pairs.append(
                    (sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True)), difference)
                )
    return _relative(pairs) if pairs else None
