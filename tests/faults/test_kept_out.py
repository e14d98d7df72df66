"""The kept-out programs themselves: they build, and one step of theirs runs or fails just as its fault means."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path

import bases
import broken
import pytest
import torch
from kept_out_bases import KEPT_OUT_BASES
from kept_out_broken import KEPT_OUT_BROKEN

from gradcheck_kit.plugins import all_rules

SYMPTOMS = {"loss-not-decreasing"}

# What the plain training step raises because of the fault.
RAISES = {
    "stars_from_one_to_two": IndexError,
    "words_to_ignore_marked_with_minus_one": IndexError,
    "pixels_of_bytes_for_a_sigmoid": RuntimeError,
}
# Their first loss may well be NaN.
NOT_FINITE = {"non-finite", "non-finite-input"}


def loss_of(target, batch):
    if target.training_step is not None:
        return target.training_step(target.model, batch)
    if isinstance(batch, dict):
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        return target.loss_fn(target.model(**inputs), batch["labels"])
    sequential = isinstance(target.model, torch.nn.Sequential)
    inputs = 1 if sequential else len(inspect.signature(target.model.forward).parameters)
    return target.loss_fn(target.model(*batch[:inputs]), *batch[inputs:])


def one_step(make):
    """The loss of the first batch, after one step of the optimizer."""
    torch.manual_seed(0)
    target = make()
    target.model.train()
    optimizers = target.optimizer if isinstance(target.optimizer, list) else [target.optimizer]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of shapes that broadcast and of schedules without steps
        loss = loss_of(target, next(iter(target.train_data)))
        loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    return target, loss


@pytest.mark.parametrize("name", KEPT_OUT_BASES)
def test_a_healthy_program_takes_a_step(name):
    target, loss = one_step(KEPT_OUT_BASES[name])
    assert loss.shape == ()
    assert loss.isfinite()
    assert all(p.isfinite().all() for p in target.model.parameters())
    if target.test_data is not None:
        target.model.eval()
        assert loss_of(target, next(iter(target.test_data))).isfinite()


@pytest.mark.parametrize("name", KEPT_OUT_BROKEN)
def test_a_broken_program_takes_a_step_or_raises_what_its_fault_means(name):
    make, causes, _ = KEPT_OUT_BROKEN[name]
    if name in RAISES:
        with pytest.raises(RAISES[name]):
            one_step(make)
        return
    _, loss = one_step(make)
    assert loss.shape == ()
    assert loss.isfinite() or NOT_FINITE & set(causes)


def test_names_are_used_once():
    names = [*bases.BASES, *broken.BROKEN, *KEPT_OUT_BASES, *KEPT_OUT_BROKEN]
    assert len(names) == len(set(names))


def test_a_program_for_each_name():
    for corpus, module in ((KEPT_OUT_BASES, "kept_out_bases"), (KEPT_OUT_BROKEN, "kept_out_broken")):
        source = Path(__file__).with_name(f"{module}.py").read_text()
        assert source.count("\n@base\n") + source.count("\n@fault(") == len(corpus)


def test_every_cause_is_a_rule_and_no_symptom():
    known = {rule.name for rule in all_rules()}
    for name, (_, causes, healthy) in KEPT_OUT_BROKEN.items():
        assert causes, name
        assert set(causes) <= known - SYMPTOMS, name
        assert healthy in KEPT_OUT_BASES, name
