"""From how many values BatchNorm takes its mean and variance, in a usual batch and in the last one of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit_vision.facts import BatchNormValues, NormValues

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)  # SyncBatchNorm counts the samples of all processes


def count_values(probe: Probe) -> BatchNormValues:
    """Values per channel at every BatchNorm in training mode; the last batch of an epoch is tried if it is of one."""
    data = probe.train_data
    with probe.workspace() as work:
        norms: dict[str, nn.Module] = {
            n: m for n, m in work.model.named_modules() if isinstance(m, KINDS) and m.training
        }
        if not norms:
            raise NotApplicable("the model has no BatchNorm in training mode")
        batch = next(probe.batches(work))
        image = next((t for t in pytree.tree_leaves(work.inputs(batch)) if isinstance(t, Tensor) and t.ndim == 4), None)
        if image is None:
            raise NotApplicable("the model takes no images, as a tensor of 4 dimensions")
        with torch.no_grad(), _counted(norms) as counts:
            work.step(batch)
        ran = tuple(NormValues(name, type(norms[name]).__name__, least) for name, least in counts.items())
        if not ran:
            raise NotApplicable("no BatchNorm ran")
        size, last = _last_batch(data)
        error, layer = "", ""
        if last == 1 and isinstance(data, DataLoader):
            single = _single(data)
            with torch.no_grad(), _counted(norms) as seen:
                try:
                    work.step(work.to_device(single))
                except ValueError as refused:
                    error, layer = str(refused), next(reversed(seen), "")
                    if seen.get(layer) != 1:  # what raised is no BatchNorm
                        error, layer = "", ""
    return BatchNormValues(
        batch_size=len(image),
        shape=tuple(image.shape[1:]),
        layers=ran,
        dataset_size=size,
        last_batch=last,
        last_error=error,
        last_error_layer=layer,
    )


@contextmanager
def _counted(norms: dict[str, nn.Module]) -> Iterator[dict[str, int]]:
    """The fewest values per channel that entered each layer, by name, in the order in which they ran."""
    counts: dict[str, int] = {}

    def watch(name: str) -> Any:
        def enter(_module: nn.Module, args: Any) -> None:
            if args and isinstance(args[0], Tensor) and args[0].ndim >= 2:
                values = args[0].numel() // max(1, args[0].shape[1])
                counts[name] = min(values, counts.get(name, values))

        return enter

    handles = [module.register_forward_pre_hook(watch(name)) for name, module in norms.items()]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _last_batch(data: Any) -> tuple[int | None, int | None]:
    """The samples of an epoch and of its last batch, where a loader's own batch sampler makes it."""
    if not isinstance(data, DataLoader) or isinstance(data.dataset, IterableDataset):
        return None, None
    if type(data.batch_sampler) is not BatchSampler or data.batch_size is None:
        return None, None
    try:
        size = len(data.sampler)  # type: ignore[arg-type]
    except TypeError:
        return None, None
    rest = size % data.batch_size
    return size, (0 if data.drop_last else rest) or data.batch_size


def _single(data: DataLoader[Any]) -> Any:
    return data.collate_fn([data.dataset[next(iter(data.sampler))]])
