"""The trained model on test data: evaluation mode, no gradients; and one batch twice, which must agree."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradcheck_kit.errors import ProbeError
from gradcheck_kit.experiments import WHOLE_STEP, NotApplicable, Probe
from gradcheck_kit.experiments.training import trained_tensors
from gradcheck_kit.facts import ClassAccuracy, DataSummary, Evaluation, RandomOperation
from gradcheck_kit.observe.module_stack import ModuleStack, source_line
from gradcheck_kit.observe.outputs import sites
from gradcheck_kit.observe.statistics import measurable
from gradcheck_kit.target.batches import batch_size_of, endless
from gradcheck_kit.target.blame import located
from gradcheck_kit.target.layers import takes_hooks
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.workspace import Workspace, workspace

RARE = 10  # times fewer samples than the commonest class has
MOST_SAMPLES = 10_000  # of test data: enough for a standard error of half a percent


def evaluate(probe: Probe) -> Evaluation:
    """Accuracy per class and loss over the test data, and whether two evaluations of one batch agree."""
    prepared = probe.prepared
    if prepared.task.training_step is not None:
        raise NotApplicable(f"{WHOLE_STEP}, so it says nothing about evaluation mode")
    with workspace(prepared, seed=prepared.settings.seed) as work:
        load_trained(work, probe)
        reestimated = probe.trained is not None and _reestimate_norms(work, probe)
        work.model.eval()
        _stop_observers(work.model)
        try:
            counts = _count(work, probe, prepared.test) if prepared.test is not None else _Counts()
            trained = _count(work, probe, prepared.train) if _has_rare_classes(probe) else _Counts()
            batch = work.to_device(next(endless(prepared.test if prepared.test is not None else prepared.train)))
            twice = _twice(work, batch)
        except ProbeError:
            raise
        except Exception as error:
            raise ProbeError(f"{prepared.name}: evaluation in eval mode raised {located(error)}") from error
        return Evaluation(
            test_data_given=prepared.test is not None,
            samples=counts.samples,
            loss=counts.loss_sum / counts.samples if counts.samples and counts.has_loss else None,
            per_class=counts.per_class(),
            predicted=tuple(sorted(counts.predicted.items())),
            statistics_reestimated=reestimated,
            deterministic=twice.deterministic,
            largest_difference=twice.difference,
            parted_at=twice.module,
            parted_type=twice.type,
            parted_itself=twice.itself,
            random_operations=twice.operations,
            nan_samples=counts.nan_samples,
            trained_per_class=trained.per_class(),
            trained_predicted=tuple(sorted(trained.predicted.items())),
        )


def load_trained(work: Workspace, probe: Probe) -> None:
    """Bring the model to where the training run left it, if there was one."""
    if probe.trained is None:
        return
    with torch.no_grad():
        for name, tensor in trained_tensors(work).items():
            value = probe.trained.get(name, tensor)
            if tensor.shape != value.shape:  # a buffer that the first forward pass gives its size
                tensor.data = torch.empty_like(value)
            tensor.copy_(value)


def _stop_observers(model: nn.Module) -> None:
    """Keep quantization-aware training's ranges as they are: evaluation is done without its observers."""
    for module in model.modules():
        if callable(stop := getattr(module, "disable_observer", None)):
            stop()


# ---- accuracy ----------------------------------------------------------------------------------------------------


class _Counts:
    def __init__(self) -> None:
        self.samples = 0
        self.loss_sum = 0.0
        self.has_loss = True
        self.nan_samples = 0
        self.correct: Counter[int] = Counter()
        self.total: Counter[int] = Counter()
        self.predicted: Counter[int] = Counter()

    def per_class(self) -> tuple[ClassAccuracy, ...]:
        return tuple(ClassAccuracy(k, self.correct[k], n) for k, n in sorted(self.total.items()))


def _has_rare_classes(probe: Probe) -> bool:
    """Whether some class is so much rarer than another that a model may leave it out."""
    data: DataSummary | None = probe.facts.get(DataSummary)
    counts = [count for _, count in data.labels] if data is not None and data.label_batches else []
    return len(counts) > 1 and max(counts) > RARE * min(counts)


def _count(work: Workspace, probe: Probe, data: Iterable[Any]) -> _Counts:
    counts = _Counts()
    with torch.no_grad():
        for batch in data:
            moved = work.to_device(batch)
            output = work.task.forward(work.model, moved)
            size = batch_size_of(moved) or 1
            counts.samples += size
            counts.nan_samples += _nan_rows(work.task.prediction(output), size)
            try:
                counts.loss_sum += float(work.task.loss(output, moved)) * size
            except Exception:  # noqa: BLE001  # a model may return its loss in training mode only
                counts.has_loss = False
            classes = work.task.classes(output, moved)
            if classes is not None:
                predicted, labels = (t[classes[1] >= 0].cpu() for t in classes)
                counts.total.update(labels.tolist())
                counts.predicted.update(predicted.tolist())
                counts.correct.update(labels[predicted == labels].tolist())
            probe.tick(min(counts.samples, MOST_SAMPLES), MOST_SAMPLES)
            if counts.samples >= MOST_SAMPLES:
                break
    return counts


def _nan_rows(prediction: Tensor | None, size: int) -> int:
    """Of how many samples the output holds NaN."""
    if prediction is None or not prediction.is_floating_point() or not measurable(prediction):
        return 0
    nan = torch.isnan(prediction)
    by_sample = prediction.ndim and len(prediction) == size
    return int(nan.reshape(size, -1).any(1).sum()) if by_sample else size * bool(nan.any())


def _reestimate_norms(work: Workspace, probe: Probe) -> bool:
    """Average BatchNorm's statistics anew over training batches where the probe was too short for its momentum.

    After n steps a running average still holds (1 - momentum)^n of its initial value; above 1 % it says nothing about
    the trained model (Wu & Johnson 2021, "Rethinking Batch in BatchNorm", call the remedy Precise BN).
    """
    steps = probe.prepared.settings.steps
    kinds = torch.nn.modules.batchnorm._BatchNorm  # noqa: SLF001  # the common base has no public name
    young = [
        m
        for m in work.model.modules()
        if isinstance(m, kinds) and m.track_running_stats and m.momentum is not None and m.training
        and (1 - m.momentum) ** steps > 0.01
    ]  # fmt: skip
    if not young:
        return False
    kept = [module.momentum for module in young]
    for module in young:
        module.reset_running_stats()
        module.momentum = None  # a plain average
    with torch.no_grad():
        for batch in itertools.islice(endless(probe.prepared.train), max(4, min(16, steps))):
            work.task.forward(work.model, work.to_device(batch))
    for module, momentum in zip(young, kept, strict=True):
        module.momentum = momentum
    return True


# ---- twice -------------------------------------------------------------------------------------------------------


class _Twice:
    deterministic: bool | None = None
    difference: float | None = None
    module: str | None = None
    type: str = ""
    itself: bool = False
    operations: tuple[RandomOperation, ...] = ()


def _twice(work: Workspace, batch: Any) -> _Twice:
    """Evaluate one batch twice; where they differ, find the first module and the random operations."""
    result = _Twice()
    with torch.no_grad():
        with _fingerprints(work.model) as first:
            a = work.task.forward(work.model, batch)
        with _fingerprints(work.model) as second:
            b = work.task.forward(work.model, batch)
    pairs = list(zip(tensors(a), tensors(b), strict=False))
    if not pairs:
        return result
    result.difference = max(_difference(x, y) for x, y in pairs)
    # The CPU is exact; on other devices atomic additions may reorder a sum.
    tolerance = 0.0 if work.device.type == "cpu" else 1e-3
    scale = max((float(x.abs().max()) for x, _ in pairs if x.numel() and x.is_floating_point()), default=1.0)
    result.deterministic = result.difference == 0 or result.difference <= tolerance * scale
    if result.deterministic:
        return result
    for one, other in zip(first, second, strict=False):
        if one.output != other.output:
            module = dict(work.model.named_modules())[one.name]
            result.module, result.type = one.name, type(module).__name__
            result.itself = one.inputs == other.inputs
            break
    result.operations = _random_operations(work, batch)
    return result


def _difference(x: Tensor, y: Tensor) -> float:
    if x.shape != y.shape:
        return float("inf")
    if x.numel() == 0:
        return 0.0
    if not x.is_floating_point():
        return float((x != y).any())
    same = (x == y) | (torch.isnan(x) & torch.isnan(y))
    return float(torch.where(same, torch.zeros_like(x), (x - y).abs()).max())


class _Fingerprint:
    def __init__(self, name: str, inputs: tuple[float, ...], output: tuple[float, ...]) -> None:
        self.name, self.inputs, self.output = name, inputs, output


@contextmanager
def _fingerprints(model: nn.Module) -> Iterator[list[_Fingerprint]]:
    """Sums of what goes into and comes out of every leaf call, in order: equal values have equal sums."""
    found: list[_Fingerprint] = []

    def hook_for(name: str) -> Any:
        def hook(_module: nn.Module, args: Any, output: Any) -> None:
            found.append(_Fingerprint(name, _sums(args), _sums(output)))

        return hook

    watched = sites(model)
    if ("", model) not in watched:
        watched = [*watched, ("", model)]
    handles = [module.register_forward_hook(hook_for(name)) for name, module in watched if takes_hooks(module)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _sums(values: Any) -> tuple[float, ...]:
    result = []
    for tensor in filter(measurable, tensors(values)):
        real = tensor.detach().abs() if tensor.is_complex() else tensor.detach()
        wide = real.float() if real.device.type == "mps" else real.double()
        weights = torch.arange(1, wide.numel() + 1, device=wide.device, dtype=wide.dtype).remainder_(97)
        result.append(float((wide.reshape(-1).nan_to_num() * weights).sum()))
    return tuple(result)


_DRAWS = {
    "dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout", "feature_alpha_dropout",
    "bernoulli", "bernoulli_", "rand", "rand_like", "randn", "randn_like", "normal", "normal_", "uniform_", "randint",
    "randint_like", "randperm", "multinomial", "gumbel_softmax", "rrelu", "poisson", "exponential_",
    "scaled_dot_product_attention",
}  # fmt: skip
_NOISE = {"randn", "randn_like", "normal", "normal_", "rand", "rand_like"}


class _RandomWatch(TorchFunctionMode):
    """Notes every function that drew random numbers, and noise that is scaled by something computed (a VAE's way)."""

    def __init__(self, stack: ModuleStack) -> None:
        super().__init__()
        self.stack = stack
        self.found: list[tuple[str, str, str, bool]] = []
        self.noise: list[tuple[Tensor, int]] = []
        self.reparameterized: set[int] = set()
        self.compared = False  # noise is what the model is to predict, as in diffusion

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        before = torch.get_rng_state() if name in _DRAWS else None
        cuda = torch.cuda.get_rng_state() if before is not None and torch.cuda.is_initialized() else None
        result = func(*args, **kwargs)
        if name in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss"):
            self.compared = self.compared or any(a is noise for a in args for noise, _ in self.noise)
        if name in ("argsort", "sort", "topk"):  # what is hidden is drawn: a masked autoencoder
            self.reparameterized |= {index for noise, index in self.noise if any(a is noise for a in args)}
        if name in ("mul", "__mul__", "__rmul__", "multiply", "mul_", "__imul__", "addcmul"):
            operands = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
            for noise, index in self.noise:
                if any(o is noise for o in operands) and any(o is not noise and o.requires_grad for o in operands):
                    self.reparameterized.add(index)
        if before is not None:
            drew = not torch.equal(before, torch.get_rng_state())
            drew = drew or (cuda is not None and not torch.equal(cuda, torch.cuda.get_rng_state()))
            if drew:
                leaf = self.stack.leaf()
                switched = leaf is not None and leaf.training and type(leaf).__module__.startswith("torch.nn.modules")
                self.found.append((name.rstrip("_"), self.stack.name(), source_line(), switched))
                if name in _NOISE and isinstance(result, Tensor):
                    self.noise.append((result, len(self.found) - 1))
        return result


def _random_operations(work: Workspace, batch: Any) -> tuple[RandomOperation, ...]:
    """What drew random numbers in evaluation mode. With gradients on: they tell what the model computed."""
    stack = ModuleStack(work.model)
    with torch.enable_grad(), stack.watch(), _RandomWatch(stack) as watch:
        output = work.task.forward(work.model, batch)
    returned = watch.compared or any(t is noise for t in tensors(output) for noise, _ in watch.noise)
    return tuple(
        RandomOperation(name, module, source, i in watch.reparameterized or (returned and "drop" not in name), switched)
        for i, (name, module, source, switched) in enumerate(watch.found)
    )
