"""Whether what is learned of some training batches holds for others of the same data.

Labels that have nothing to do with their inputs are learned by heart all the same. Test data would show it, and so it
would that test data is prepared in another way: batches of one data set differ in nothing but their samples.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import torch

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.facts import Evaluation, HeldOut, LearningRateResponse, Training
from gradcheck_kit.target.batches import batch_size_of
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.workspace import Workspace, workspace

BATCHES = 64  # of an epoch, one half of which is trained on
FEWEST = 4
NUMBERS = 2**26  # in all of them, beyond which no further batch is kept
PATIENCE = 5  # times the probe's steps
LEARNED = 0.8  # of a constant prediction's loss: there is something that may hold, and little certainty yet
LOOKED_AT = 8  # batches of the others on the way
IN_A_ROW = 16  # losses whose mean says so


def look_at_held_out(probe: Probe) -> HeldOut:
    """Train on every other batch until that is learned a little, and look at the loss on the batches between.

    Made where the run does not learn and one of more steps or another rate does, or where what it learned is not worth
    more than a constant prediction, in training or on test data. Raises NotApplicable otherwise.
    """
    prepared, training = probe.prepared, probe.facts.get(Training)
    if prepared.synthetic:
        raise NotApplicable("the data is made up: there is nothing to learn but by heart")
    if training is None or training.constant_loss is None or not training.finite:
        raise NotApplicable("what a constant prediction reaches is not known")
    if prepared.settings.quick:
        raise NotApplicable("left out by --quick")
    factor = _factor(training, probe.facts.get(LearningRateResponse), probe.facts.get(Evaluation))
    with workspace(prepared, seed=prepared.settings.seed) as work:
        batches = _read(prepared.train, work)
        work.scale_learning_rate(factor)
        trained, others = batches[::2], batches[1::2]
        try:
            steps, lowest = _train(work, trained, others, training.constant_loss, probe)
            found = HeldOut(steps, factor, lowest, *_compare(work, trained, others))
            rows = sum(batch_size_of(batch) or 0 for batch in others)
            return replace(found, others_samples=max(found.samples, rows))  # tokens of a text, where they are classes
        except NotApplicable:
            raise
        except Exception as error:  # a loss that differentiates by itself cannot be evaluated without gradients
            raise NotApplicable("the loss cannot be evaluated on other batches") from error


def _read(train: Any, work: Workspace) -> list[Any]:
    """The first batches of an epoch, fewer of large ones, all at once: they are gone through again and again."""
    batches: list[Any] = []
    numbers = 0
    for batch in itertools.islice(train, BATCHES):
        batches.append(work.to_device(batch))
        numbers += sum(t.numel() for t in tensors(batch))
        if len(batches) >= FEWEST and numbers > NUMBERS:
            break
    if len(batches) < FEWEST:
        raise NotApplicable("the training data has fewer than four batches")
    return batches


def _factor(training: Training, response: LearningRateResponse | None, evaluation: Evaluation | None) -> float:
    """Of the learning rate at which the data is learned, by heart or otherwise."""
    chance = training.constant_loss
    assert chance is not None
    if not training.harm:
        carried = evaluation is None or evaluation.loss is None or evaluation.loss < chance
        if not training.at_chance and carried:
            raise NotApplicable("what the run has learned is worth more than a constant prediction")
        return 1.0
    trials = [trial for trial in response.trials if trial.learned(chance)] if response is not None else []
    if not trials and response is not None and response.own.end < 0.95 * chance:
        return 1.0
    if not trials:
        raise NotApplicable("no run learns the data, by heart or otherwise")
    return min(trials, key=lambda trial: (abs(math.log(trial.factor)), trial.end)).factor


def _train(work: Workspace, batches: list[Any], others: list[Any], chance: float, probe: Probe) -> tuple[int, float]:
    """Over and over through the batches, until their losses are below a share of `chance`.

    Returns the steps that it took and the lowest loss on others, looked at after 0, 1, 2, 4, 8, ... of them.
    """
    losses: list[float] = []
    lowest = math.inf
    limit = PATIENCE * probe.prepared.settings.steps
    for step in range(limit):
        probe.tick(step, limit)
        if step & (step - 1) == 0:
            lowest = min(lowest, _losses(work, others[:LOOKED_AT]))
        batch = batches[step % len(batches)]
        work.clear_gradients()
        loss = work.step(batch)[1]
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise NotApplicable("the loss is not finite on half of the batches")
        recent = losses[-IN_A_ROW:]
        if len(recent) == IN_A_ROW and math.fsum(recent) / IN_A_ROW < LEARNED * chance:
            break
        work.backward(loss)
        work.update(batch)
    return len(losses), lowest


def _compare(work: Workspace, trained: list[Any], others: list[Any]) -> tuple[float, float, int, int, int]:
    """The losses on both halves, and the others' classes, in the mode in which what was trained on comes out lower.

    Running statistics may be too young for evaluation mode, and dropout makes training mode worse.
    """
    found = []
    for training_mode in (False, True):
        work.model.train(training_mode)
        found.append((_losses(work, trained), _losses(work, others), *_classes(work, others)))
    return min(found)


@torch.no_grad()
def _losses(work: Workspace, batches: list[Any]) -> float:
    return math.fsum(float(work.step(batch)[1]) for batch in batches) / len(batches)


@torch.no_grad()
def _classes(work: Workspace, batches: list[Any]) -> tuple[int, int, int]:
    """Right answers, the most that one class for all would get, and how many samples were asked for; 0 of 0: none."""
    correct, labels_seen = 0, []
    for batch in batches:
        classes = work.task.classes(work.task.forward(work.model, batch), batch)
        if classes is None:
            return 0, 0, 0
        predicted, labels = (t[classes[1] >= 0].cpu() for t in classes)
        correct += int((predicted == labels).sum())
        labels_seen.append(labels)
    counts = torch.cat(labels_seen).bincount()
    return correct, int(counts.max()) if len(counts) else 0, int(counts.sum())
