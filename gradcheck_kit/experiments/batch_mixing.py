"""Whether samples of a batch see each other in evaluation mode: some are changed a little, the others must not move."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
    default_collate,
)

from gradcheck_kit.experiments import WHOLE_STEP, NotApplicable, Probe
from gradcheck_kit.experiments.collation import refuse_binding
from gradcheck_kit.experiments.operations import calls_of, first_operation
from gradcheck_kit.facts import BatchMixing, MixingOperation
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.layers import takes_hooks
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.task import Task
from gradcheck_kit.target.workspace import Workspace, workspace

SAMPLES = 11  # a prime that no layer is wide by: a dimension of this size is the batch
STEP = {torch.float64: 1e-5, torch.float32: 1e-3}  # relative, well above rounding and too small to flip a choice
Forward = Callable[[int, Tensor | None], Any]


def mix_batches(probe: Probe) -> BatchMixing:
    """Change one half of a small batch, then the other, by one part in a hundred thousand.

    Raises NotApplicable where it is not certain that the first dimension of what the model is given is the batch.
    """
    prepared = probe.prepared
    if prepared.task.training_step is not None:
        raise NotApplicable(f"{WHOLE_STEP}, so it says nothing about evaluation mode")
    if prepared.synthetic:
        raise NotApplicable("the inputs are made up: which of their dimensions is the batch is not known")
    shuffled = _stacks_samples(probe)
    for dtype in (torch.float64, torch.float32):
        with workspace(prepared, seed=prepared.settings.seed) as work:
            in_evaluation_mode(work.model)
            batch = rows(work.to_device(next(endless(prepared.train))), work.task)
            try:
                work.model.to(dtype)
                return _mix(work, in_precision(batch, dtype), dtype, shuffled=shuffled)
            except NotApplicable:
                raise
            except Exception as error:  # noqa: BLE001  # a model that is not made for float64 is tried as it is
                failed = type(error).__name__
    raise NotApplicable(f"the model does not take a smaller batch of the same data ({failed})")


def _stacks_samples(probe: Probe) -> bool:
    """Whether samples are drawn at random. Raises NotApplicable unless they are stacked along dimension 0, or padded.

    torch's own collation does that. One of somebody's own is tried on samples of the data; what a batch_sampler of
    somebody's own means by the samples that it puts together is not known.
    """
    train, seed = probe.prepared.train, probe.prepared.settings.seed
    if not isinstance(train, DataLoader) or train.batch_size is None:
        raise NotApplicable("the data comes in batches of its own: which of their dimensions is the batch is not known")
    if type(train.batch_sampler) is not BatchSampler:
        raise NotApplicable("the data has a batch_sampler of its own, which may mean to bind samples")
    if train.collate_fn is not default_collate:
        with workspace(probe.prepared, seed=seed) as work:
            refuse_binding(train, work.task, most=SAMPLES, seed=seed)
    return isinstance(train.sampler, RandomSampler | SubsetRandomSampler | WeightedRandomSampler)


def in_evaluation_mode(model: nn.Module) -> None:
    """Evaluation mode for every module, and weights that are all equal, as of zero-initialised heads, made unequal.

    A head of zeros would hide all that happens before it.
    """
    model.eval()
    for module in model.modules():
        if "quantized" in type(module).__module__:
            raise NotApplicable("the model is quantized: its scales are of whole batches")
        module.training = False  # a train() of the user's own may have kept it
        if callable(stop := getattr(module, "disable_observer", None)):
            stop()
    part_equal_weights(model)


def part_equal_weights(model: nn.Module) -> None:
    """Make trainable weights that are all equal unequal: zero-initialised heads and gates let nothing through."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.numel() and parameter.is_floating_point():
                flat = parameter.detach().reshape(-1)
                if bool((flat == flat[0]).all()):
                    parameter.add_(torch.randn_like(parameter) * 0.1)


def rows(batch: Any, task: Task) -> Any:
    """The batch as it is. Raises NotApplicable unless all that the model is given has one row per sample."""
    found = tensors(task.inputs(batch))
    leaves = pytree.tree_leaves(task.inputs(batch))
    if not found or any(not isinstance(leaf, Tensor | int | float | bool | None) for leaf in leaves):
        raise NotApplicable("the model is given something other than tensors")
    sizes = {len(t) if t.ndim else 0 for t in found}
    if len(sizes) > 1 or not all(isinstance(t, Tensor) and t.ndim and len(t) in sizes for t in tensors(batch)):
        raise NotApplicable("the model is given tensors that do not all have one row per sample")
    if min(sizes) < 4:
        raise NotApplicable("a batch of fewer than four samples tells nothing")
    return batch


def in_precision(batch: Any, dtype: torch.dtype) -> Any:
    return pytree.tree_map(lambda t: t.to(dtype) if isinstance(t, Tensor) and t.is_floating_point() else t, batch)


def _mix(work: Workspace, batch: Any, dtype: torch.dtype, *, shuffled: bool) -> BatchMixing:
    task = replace(work.task, precision=None)
    size = min(SAMPLES, len(tensors(task.inputs(batch))[0]))
    discrete = _all_discrete(task.inputs(batch))
    embeddings = _Embeddings(work.model, task, _first(batch, size), size)

    def forward(count: int, changed: Tensor | None) -> Any:
        small = _first(batch, count)
        moved = small if changed is None else pytree.tree_map(lambda t: _moved(t, changed, dtype, discrete), small)
        with torch.no_grad(), embeddings.moving(changed, dtype):
            return task.forward(work.model, moved)

    plain, again = tensors(forward(size, None)), tensors(forward(size, None))
    if not all(_equal(a, b) for a, b in zip(plain, again, strict=True)):
        raise NotApplicable("two evaluations of one batch differ (see eval-nondeterministic)")
    fewer = tensors(forward(size - 1, None))
    compared = [i for i, pair in enumerate(zip(plain, fewer, strict=True)) if is_float(pair[0])]
    dimensions = {i: d for i in compared if (d := _batch_dimension(plain[i], fewer[i], size)) is not None}
    if not dimensions:
        raise NotApplicable("the model returns nothing that has one row per sample")
    if not all(bool(plain[i].isfinite().all()) for i in dimensions):
        raise NotApplicable("the model's output is not finite (see non-finite)")
    half = torch.zeros(size, dtype=torch.bool)
    half[torch.randperm(size)[: size // 2]] = True
    other, own = dict.fromkeys(dimensions, 0.0), dict.fromkeys(dimensions, 0.0)
    for changed in (half, ~half):
        moved = tensors(forward(size, changed))
        for i, d in dimensions.items():
            if moved[i].shape != plain[i].shape:
                raise NotApplicable("the shape of the output depends on the values of the input")
            difference = (moved[i] - plain[i]).abs().movedim(d, 0)
            other[i] += float(difference[~changed].square().sum())
            own[i] += float(difference[changed].square().sum())
    ratios = [math.sqrt(other[i] / own[i]) for i in dimensions if own[i] > 0]
    influence = max(ratios, default=None)
    # Where not even a sample's own output moves, samples may mix on the way all the same: attention that takes the
    # batch for a sequence, of which then the one position is read that is equal for all.
    operation = _locate(work.model, forward, size, half) if influence != 0 else None
    return BatchMixing(size, shuffled, influence, _without_statistics(work.model, operation), operation)


def _all_discrete(inputs: Any) -> bool:
    floats = [t for t in tensors(inputs) if t.is_floating_point()]
    return all(_discrete(t) for t in floats)


def _discrete(tensor: Tensor) -> bool:
    """Masks, lengths and positions that happen to be floats: nobody means them to move by a little."""
    return tensor.ndim < 2 or bool((tensor == tensor.round()).all())


def _moved(leaf: Any, changed: Tensor, dtype: torch.dtype, discrete: bool) -> Any:
    """The tensor with some rows changed in proportion: zeros, which may be padding, stay zeros."""
    if not isinstance(leaf, Tensor) or not is_float(leaf) or (_discrete(leaf) and not discrete):
        return leaf
    generator = torch.Generator().manual_seed(leaf.numel())
    noise = torch.randn(leaf.shape, generator=generator, dtype=torch.float64).to(leaf.device)
    factor = 1 + STEP[dtype] * noise * changed.to(leaf.device).view(-1, *[1] * (leaf.ndim - 1))
    return leaf * factor.to(leaf.dtype if leaf.is_floating_point() else dtype)


def _first(batch: Any, count: int) -> Any:
    return pytree.tree_map(lambda t: t[:count] if isinstance(t, Tensor) else t, batch)


class _Embeddings:
    """Moves what embeddings return for some samples: tokens themselves cannot be changed by a little.

    A model may look samples up in an order of its own, by length say. A call takes them in the batch's order when it
    follows a permutation of the batch; else each row has to be that of one sample only. Other calls are left alone,
    and so are those that look up the same for all samples, as of positions.
    """

    def __init__(self, model: nn.Module, task: Task, batch: Any, size: int) -> None:
        kinds = (nn.Embedding, nn.EmbeddingBag)
        self._modules: list[nn.Module] = [m for m in model.modules() if isinstance(m, kinds) and takes_hooks(m)]
        self._samples: list[Tensor | None] = []  # by call: of each row the place of its sample in the batch
        self._call = 0
        if self._modules:
            order = torch.randperm(size, generator=torch.Generator().manual_seed(size))
            plain = self._indices(model, task, batch)
            turned = self._indices(model, task, pytree.tree_map(lambda t: _rows(t, order), batch))
            given = [t for t in tensors(task.inputs(batch)) if not is_float(t)]
            pairs = zip(plain, turned, strict=True) if len(plain) == len(turned) else ((p, None) for p in plain)
            self._samples = [_samples(a, b, order, given, size) for a, b in pairs]

    def _indices(self, model: nn.Module, task: Task, batch: Any) -> list[Tensor | None]:
        """What every call of an embedding looks up."""
        found: list[Tensor | None] = []

        def hook(_module: nn.Module, args: Any, _output: Any) -> None:
            found.append(args[0].detach().clone() if args and isinstance(args[0], Tensor) else None)

        with torch.no_grad(), _hooked(self._modules, hook):
            task.forward(model, batch)
        return found

    @contextmanager
    def moving(self, changed: Tensor | None, dtype: torch.dtype) -> Iterator[None]:
        """Move what belongs to the samples that are `changed`."""

        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            samples = self._samples[self._call] if self._call < len(self._samples) else None
            self._call += 1
            if samples is None or not isinstance(output, Tensor) or len(output) != len(samples):
                return output
            assert changed is not None
            with torch._C.DisableTorchFunction():  # noqa: SLF001  # it is no operation of the model's
                return _moved(output, changed[samples], dtype, discrete=True)

        self._call = 0
        with _hooked(self._modules if changed is not None else [], hook):
            yield


@contextmanager
def _hooked(modules: list[nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(leaf: Any, order: Tensor) -> Any:
    return leaf[order.to(leaf.device)] if isinstance(leaf, Tensor) else leaf


def _samples(
    plain: Tensor | None, turned: Tensor | None, order: Tensor, given: list[Tensor], size: int
) -> Tensor | None:
    """The sample of each row that an embedding looks up, shape (size,); None where that is not certain."""
    if plain is None or not plain.ndim or len(plain) != size or bool((plain == plain[0]).all()):
        return None
    if turned is not None and torch.equal(turned, _rows(plain, order)):
        return torch.arange(size)
    for tokens in given:
        if tokens.shape == plain.shape:
            same = (plain.unsqueeze(1) == tokens.unsqueeze(0)).flatten(2).all(2) if plain.ndim > 1 else None
            if same is not None and bool((same.sum(0) == 1).all()) and bool((same.sum(1) == 1).all()):
                return same.int().argmax(1).cpu()
    return None


def is_float(tensor: Tensor) -> bool:
    """Whether it holds real or complex numbers, and neither indices nor flags."""
    return tensor.is_floating_point() or tensor.is_complex()


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def _batch_dimension(plain: Tensor, fewer: Tensor, size: int) -> int | None:
    """The one dimension that has as many elements as the batch has samples; None: it has none.

    Raises NotApplicable where two have: the model compares samples with each other because it is meant to.
    """
    if plain.ndim != fewer.ndim:
        return None
    differing = [d for d, (a, b) in enumerate(zip(plain.shape, fewer.shape, strict=True)) if a != b]
    if len(differing) > 1:
        raise NotApplicable("the model compares the samples of a batch with each other, as contrastive models do")
    if not differing or plain.shape[differing[0]] != size or fewer.shape[differing[0]] != size - 1:
        return None
    return differing[0]


# ---- where -------------------------------------------------------------------------------------------------------


def _locate(model: nn.Module, forward: Forward, size: int, half: Tensor) -> MixingOperation | None:
    """The first operation with an element that moves with either half: whatever its layout, it holds two samples."""
    nobody = torch.zeros_like(half)  # and not None: all three passes then run the same functions
    try:
        passes = [calls_of(model, partial(forward, size, changed)) for changed in (nobody, half, ~half)]
    except Exception:  # noqa: BLE001  # that samples mix is proved; where they do is a help
        return None

    def wrong(outputs: Any) -> bool:
        plain, one, other = outputs
        if not any(n and n % size == 0 for n in plain.shape):
            return False
        if bool(((plain != one) & (plain != other)).any()):
            return True
        if plain.shape.count(size) != 1:
            return False
        d = plain.shape.index(size)  # rows that only changed places hold one sample each, but another one's
        return any(
            bool((moved != plain).movedim(d, 0)[~changed].any()) for moved, changed in ((one, half), (other, ~half))
        )

    def reduced(outputs: Any) -> bool:
        plain, one, other = outputs
        return size not in plain.shape and bool(((plain != one) | (plain != other)).any())

    return first_operation(model, passes, wrong=wrong, reduced=reduced)


def _without_statistics(model: nn.Module, operation: MixingOperation | None) -> str:
    """The layer at fault when its author asked torch for the batch's own statistics."""
    found = dict(model.named_modules()).get(operation.module) if operation else None
    kinds = nn.modules.batchnorm._BatchNorm  # noqa: SLF001  # the common base has no public name
    return operation.module if operation and isinstance(found, kinds) and not found.track_running_stats else ""
