"""How large the numbers are that enter the first layer with weights, and whether standardising them helps.

What enters the layer is measured and not what the data holds: a model may well normalise its input itself, or look
it up in an embedding. Of features beside embeddings those are the input that stay the same with other weights. No
threshold says that a scale hurts; the same run on standardised numbers does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.second_run import losses_of_run
from gradcheck_kit.facts import FeatureScale, InputScale, Training
from gradcheck_kit.observe.statistics import measurable
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.workspace import Workspace, seed_everything, workspace

BATCHES = 2
MOST = 0.75  # of the features: a flag that is 0 or 1 looks much the same however it is scaled
COMPARED = 8  # batches of training and of test data
MOST_LISTED = 8
ENOUGH = 64  # rows, from which on mean and spread are known
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS = (nn.Linear, *CONVOLUTIONS, nn.RNNBase, nn.RNNCellBase)


class _Seen(Exception):  # noqa: N818  # no error: it ends a forward pass that has shown what it was to show
    pass


def measure_input_scale(probe: Probe) -> InputScale:
    """Mean and spread per feature or channel, and where they are odd and the run could be better, the run again."""
    prepared = probe.prepared
    training: Training | None = probe.facts.get(Training)
    if prepared.synthetic:
        raise NotApplicable("the data is made up")
    name, entering, statistics = _look(probe)
    scale = InputScale(
        layer=name,
        layer_type=type(entering.layer).__name__,
        axis=entering.axis if len(statistics.mean) > 1 or entering.axis == "channel" else "",
        features=len(statistics.mean),
        minimum=statistics.minimum,
        maximum=statistics.maximum,
        listed=tuple(statistics.listed()),
        worst=statistics.worst(),
        standardized_losses=(),
        apart=_apart(probe),
    )
    if not scale.odd or training is None or prepared.settings.quick or training.learned_well:
        return scale
    with workspace(prepared, seed=prepared.settings.seed) as work, _standardizing(work, name, statistics):
        losses = losses_of_run(probe, work)
    return InputScale(**{f: getattr(scale, f) for f in scale.__slots__} | {"standardized_losses": losses})


def _apart(probe: Probe) -> tuple[FeatureScale, FeatureScale] | None:
    """The feature whose scale differs most between training and test data, where most features' do."""
    prepared = probe.prepared
    if prepared.test is None:
        return None
    name, _, trained = _look(probe, batches=COMPARED)
    if trained.beside or trained.rows < ENOUGH:
        return None
    with workspace(prepared, seed=prepared.settings.seed) as work:
        entering = _Entering(work.model)
        try:
            for batch in itertools.islice(prepared.test, COMPARED):
                entering.look(work, work.to_device(batch))
        except Exception:  # noqa: BLE001  # test data that the model does not take is told by who evaluates it
            return None
        if entering.layer is None or work.model.get_submodule(name) is not entering.layer:
            return None
        tested = entering.statistics(pooled=len(trained.mean) == 1)
    if tested.rows < ENOUGH or len(tested.scales) != len(trained.scales):
        return None
    pairs = [(a, b) for a, b in zip(trained.scales, tested.scales, strict=True) if not a.binary and a.std > 0]
    if not pairs or sum(_differ(a, b) for a, b in pairs) < MOST * len(pairs):
        return None
    return max(pairs, key=lambda pair: abs(pair[0].mean - pair[1].mean) / pair[0].std)


def _differ(trained: FeatureScale, tested: FeatureScale) -> bool:
    """Whether no chance and no augmentation makes one of the other."""
    shift = abs(tested.mean - trained.mean) / trained.std
    return shift > 3 or not 0.4 <= tested.std / trained.std <= 2.5


def _look(probe: Probe, batches: int = BATCHES) -> tuple[str, _Entering, _Statistics]:
    """The first layer with weights, and what enters it in the first batches."""
    prepared = probe.prepared
    with workspace(prepared, seed=prepared.settings.seed) as work:
        entering = _Entering(work.model)
        taken = [work.to_device(batch) for batch in itertools.islice(prepared.train, batches)]
        for batch in taken:
            entering.look(work, batch)
        if entering.layer is None:
            entering.look_beside_embeddings(work, taken)
        name = next((n for n, m in work.model.named_modules() if m is entering.layer), None)
        if entering.layer is None or not entering.values or name is None:
            raise NotApplicable("no layer with weights takes the input as it is")
        return name, entering, entering.statistics(pooled=entering.dimensions == 2 and _is_image(work, taken[-1]))


def standardizing_input(work: Workspace, probe: Probe) -> AbstractContextManager[None]:
    """A context in which the first layer with weights is given its input with mean 0 and standard deviation 1."""
    name, _, statistics = _look(probe)
    return _standardizing(work, name, statistics)


def _is_image(work: Workspace, batch: Any) -> bool:
    """Whether the numbers of a sample are pixels or time steps, which have one scale also when laid in a row."""
    given = next((t for t in tensors(work.task.inputs(batch)) if t.is_floating_point()), None)
    return given is not None and given.ndim >= 3


class _Entering:
    """What enters the first layer with weights that is called."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.layer: nn.Module | None = None
        self.values: list[Tensor] = []
        self.axis = "feature"
        self.dimensions = 0
        self.raw: Tensor | None = None  # which features are the input as it is, where others beside them are computed
        self._computed: tuple[nn.Module, Tensor] | None = None  # what a Linear layer is given that depends on weights

    def look(self, work: Workspace, batch: Any) -> None:
        handle = register_module_forward_pre_hook(self._enter)
        try:
            work.task.forward(work.model, batch)
        except _Seen:
            pass
        finally:
            handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        if not isinstance(module, LAYERS):
            return
        value = args[0] if args else None
        # What requires a gradient came out of an embedding, a norm or another trained thing: it is no input any more.
        if isinstance(value, Tensor) and value.is_floating_point() and not value.requires_grad and measurable(value):
            if isinstance(module, CONVOLUTIONS):
                self.axis = "channel"
                dim = 1 if value.ndim == module.weight.ndim else 0
            else:
                dim = value.ndim - 1
            if self.layer in (None, module):
                self.layer, self.dimensions = module, value.ndim
                self.values.append(value.detach().movedim(dim, -1).reshape(-1, value.shape[dim]).double().cpu())
        elif isinstance(value, Tensor) and isinstance(module, nn.Linear) and value.ndim == 2 and measurable(value):
            self._computed = module, value.detach().double().cpu()
        raise _Seen

    def look_beside_embeddings(self, work: Workspace, batches: list[Any]) -> None:
        """Find features that no weight has a part in, as where numbers are joined to embeddings: by other weights."""
        if self._computed is None or not any(
            isinstance(m, nn.Embedding | nn.EmbeddingBag) for m in self.model.modules()
        ):
            return
        seen = []
        for changed in (False, True):
            if changed:
                with torch.no_grad():
                    for parameter in work.parameters():
                        if parameter.is_floating_point():
                            parameter.add_(torch.randn_like(parameter))
            seed_everything(0)
            passes = []
            for batch in batches:
                self.look(work, batch)
                passes.append(self._computed)
            seen.append(passes)
        layer = seen[0][0][0]
        if any(module is not layer for passes in seen for module, _ in passes):
            return
        before, after = (torch.cat([value for _, value in passes]) for passes in seen)
        if before.shape == after.shape and bool((same := (before == after).all(0)).any()):
            self.layer, self.dimensions, self.values, self.raw = layer, 2, [before], same

    def statistics(self, *, pooled: bool) -> _Statistics:
        values = torch.cat([v[:: max(1, len(v) // 4096)] for v in self.values])
        if self.raw is not None:
            return _Statistics(values, self.raw)
        return _Statistics(values.reshape(-1, 1) if pooled else values)


class _Statistics:
    def __init__(self, values: Tensor, raw: Tensor | None = None) -> None:
        self.beside, self.rows = raw is not None, len(values)
        raw = torch.ones(values.shape[1], dtype=torch.bool) if raw is None else raw
        self.mean, self.std = values.mean(0), values.std(0, correction=0)
        self.minimum, self.maximum = float(values[:, raw].min()), float(values[:, raw].max())
        self.sparse = (values == 0).double().mean(0) > 0.5
        # 0 and 1 say "no" and "yes": they are no quantity, and neither is what never changes.
        self.plain = ((values == 0) | (values == 1)).all(0) | (self.std == 0) | ~raw

        columns = (t.tolist() for t in (self.mean, self.std, self.sparse, self.plain))
        scales = [FeatureScale(i, *row) for i, row in enumerate(zip(*columns, strict=True))]
        self.scales = [scale for scale in scales if bool(raw[scale.index])]

    def listed(self) -> list[FeatureScale]:
        return self.scales if len(self.scales) <= MOST_LISTED else []

    def worst(self) -> FeatureScale:
        """The odd one that is farthest from 1, if there is any."""
        return max(self.scales, key=lambda s: (s.odd, abs(math.log(max(s.rms, 1e-30)))))


@contextmanager
def _standardizing(work: Workspace, layer: str, statistics: _Statistics) -> Iterator[None]:
    mean = torch.where(statistics.plain, 0.0, statistics.mean)
    std = torch.where(statistics.plain, 1.0, statistics.std)
    module = work.model.get_submodule(layer)

    def standardize(_module: nn.Module, args: Any) -> Any:
        value = args[0]
        if not isinstance(value, Tensor) or (value.requires_grad and not statistics.beside):
            return None  # the layer is called again, on what it returned
        shape = [1] * value.ndim
        place = (1 if value.ndim == module.weight.ndim else 0) if isinstance(module, CONVOLUTIONS) else -1
        shape[place] = len(mean)
        centre, spread = mean.to(value).view(shape), std.to(value).view(shape)
        return ((value - centre) / spread, *args[1:])

    handle = module.register_forward_pre_hook(standardize)
    try:
        yield
    finally:
        handle.remove()
