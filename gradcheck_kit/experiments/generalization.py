"""The test loss along the training run: it falls, and where the run learns its data by heart, it rises again.

The run is made again from the same start, so that each look is at a model that training passed through; and always at
the same test samples, so that what rises does so sample by sample.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.second_run import losses_of_run
from gradcheck_kit.facts import Evaluation, Generalization, Training
from gradcheck_kit.target.batches import batch_size_of
from gradcheck_kit.target.keep import keep_random_state
from gradcheck_kit.target.workspace import Workspace, workspace

LOOKS = 12
MOST = 512  # test samples
HANDFUL = 16  # samples whose losses are averaged, so that one odd sample is one vote among many
EPOCHS = 2  # below which hardly any sample was seen twice
GAP = 0.1  # (test - training loss) / training loss, from which the run is made again (SageMaker Debugger's Overfit)


def look_at_generalization(probe: Probe) -> Generalization:
    """How often the run went through its data, and, where the test loss ends above its own, where it came from."""
    prepared = probe.prepared
    training, evaluation = probe.facts.get(Training), probe.facts.get(Evaluation)
    if prepared.test is None:
        raise NotApplicable("there is no test data")
    if prepared.synthetic:
        raise NotApplicable("the data is made up: there is nothing to learn but by heart")
    if training is None or evaluation is None or evaluation.loss is None:
        raise NotApplicable("no loss on test data was measured")
    if not isinstance(prepared.train, Sized):
        raise NotApplicable("the training data has no length")
    try:
        length = len(prepared.train)
    except TypeError as error:
        raise NotApplicable("the training data is a stream") from error
    epochs = prepared.settings.steps / length if length else 0.0
    dataset = getattr(prepared.train, "dataset", None)
    samples = len(dataset) if isinstance(dataset, Sized) else length * training.samples_per_step
    found = Generalization(epochs, 0, samples, (), (), (), ())
    gap = evaluation.loss - training.last_loss > GAP * abs(training.last_loss)
    if epochs < EPOCHS or training.harm or training.competing or not gap or prepared.settings.quick:
        return found
    return _looks(probe, found)


def _looks(probe: Probe, found: Generalization) -> Generalization:
    prepared = probe.prepared
    steps = prepared.settings.steps
    due = sorted({round(k * steps / LOOKS) for k in range(LOOKS + 1)})
    losses: list[tuple[float, ...]] = []
    accuracies: list[float | None] = []
    with workspace(prepared, seed=prepared.settings.seed) as work:
        handfuls = list(_handfuls(work, prepared.test))

        def look(step: int) -> None:
            if step in due:
                with _aside(work):
                    one, accuracy = _evaluate(work, handfuls)
                losses.append(one)
                accuracies.append(accuracy)

        try:
            own = losses_of_run(probe, work, look=look)
        except Exception as error:  # a model that takes batches of one size only
            raise NotApplicable("the test data cannot be evaluated a few samples at a time") from error
    if len(losses) < len(due):  # the loss became NaN this time, which a device that is not exact may do
        return found
    between = tuple(fmean(own[a:b]) for a, b in itertools.pairwise(due))
    return Generalization(
        found.epochs,
        sum(batch_size_of(handful) or 1 for handful in handfuls),
        found.training_samples,
        tuple(due),
        tuple(losses),
        tuple(accuracies),
        (own[0], *between),
    )


def _handfuls(work: Workspace, test: Any) -> Iterator[Any]:
    """The first test samples in small batches, where they can be taken apart."""
    batches, total = [], 0
    for batch in test:
        batches.append(work.to_device(batch))
        total += batch_size_of(batch) or 1
        if total >= MOST:
            break
    size = max(2, min(HANDFUL, total // 32))  # of one sample many a model squeezes the batch away
    for batch in batches:
        rows = batch_size_of(batch)
        leaves = pytree.tree_leaves(batch)
        if rows is None or not all(isinstance(t, Tensor) and t.ndim and len(t) == rows for t in leaves):
            yield batch
            continue
        for start in range(0, rows - size + 1, size):  # a rest of one or two would weigh as much as a handful
            yield pytree.tree_map(_rows(start, start + size), batch)


def _rows(start: int, end: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor[start:end]


@contextmanager
def _aside(work: Workspace) -> Iterator[None]:
    """Evaluation mode and no trace in the random state; afterwards each module is in the mode it was in."""
    modes = [(module, module.training) for module in work.model.modules()]
    with keep_random_state():
        work.model.eval()
        yield
    for module, training in modes:
        module.training = training


def _evaluate(work: Workspace, handfuls: list[Any]) -> tuple[tuple[float, ...], float | None]:
    losses, correct, total = [], 0, 0
    with torch.no_grad():
        for handful in handfuls:
            output, loss = work.step(handful)
            losses.append(float(loss))
            classes = work.task.classes(output, handful)
            if classes is not None:
                predicted, labels = classes
                total += int((labels >= 0).sum())
                correct += int(((predicted == labels) & (labels >= 0)).sum())
    return tuple(losses), correct / total if total else None
