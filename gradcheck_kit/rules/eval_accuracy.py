from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import Evaluation, InputScale, Training, binomial_tail, middle
from gradcheck_kit.rule import Bar, Finding, Skip, rule


@rule("GK601", needs=(Evaluation,), uses=(Training, InputScale))
def eval_accuracy(
    evaluation: Evaluation,
    training: Training | None,
    scale: InputScale | None,
    *,
    min_accuracy: float | None = None,
    p: float = 0.01,
) -> Iterator[Finding]:
    """Accuracy on test data in evaluation mode is below `min_accuracy`, or no better than the commonest class.

    Outputs that are NaN in evaluation mode only are an error in any case.
    The second is judged only when the model does better than that on its training batches, which it then has learned.
    Test data of which most features have another scale than in training is a warning whatever the accuracy, and an
    error where that is no better.
    """
    if not evaluation.test_data_given:
        raise Skip("there is no test data")
    if evaluation.nan_samples and (training is None or training.finite):
        yield _nan(evaluation)
        return
    accuracy = evaluation.accuracy
    if scale is not None and scale.apart is not None and min_accuracy is None:
        yield _of_scales(evaluation, training, scale, p)
        return
    if accuracy is None:
        raise Skip("accuracy is not defined for this output and target")
    total = sum(c.total for c in evaluation.per_class)
    commonest = max(c.total for c in evaluation.per_class) / total
    evidence = {"accuracy": accuracy, "limit": commonest if min_accuracy is None else min_accuracy, "samples": total}
    bars = tuple(
        Bar(f"class {c.label}", f"{c.correct}/{c.total}", c.correct / c.total) for c in evaluation.per_class if c.total
    )
    if min_accuracy is not None:
        if not accuracy >= min_accuracy:
            yield Finding(
                where="test data",
                message=f"Accuracy on {total:,} test samples in evaluation mode is {accuracy:.1%}; "
                f"--min-accuracy asks for {min_accuracy:.1%}.",
                evidence=evidence,
                fixes=("Probe longer (--steps 300): a short run reaches less than a whole training.",),
                profile=bars,
            )
        return
    if training is None:
        raise Skip("the model was not trained first; ask for an accuracy with --min-accuracy")
    seen = [a for a in training.accuracies[-4:] if a is not None]
    learned = middle(seen)
    if learned is None or not seen:
        raise Skip("accuracy on the training batches was not recorded")
    if not _better(learned, commonest, len(seen) * training.samples_per_step, 1e-4):
        raise Skip("the model does no better than the commonest class on its training batches either")
    if _better(accuracy, commonest, total, p):
        return
    # Not significantly better than guessing may be for want of samples: it must also fall short of the training data.
    trained_on = len(seen) * training.samples_per_step
    expected = learned - 2.33 * math.sqrt(learned * (1 - learned) / trained_on)
    if not binomial_tail(total - round(accuracy * total), total, 1 - expected) < p:
        raise Skip(f"{total:,} test samples are too few to tell {accuracy:.1%} from {learned:.1%} on training batches")
    yield Finding(
        where="test data",
        message=f"Accuracy on {total:,} test samples in evaluation mode is {accuracy:.1%}, no better than always "
        f"guessing the commonest class ({commonest:.1%}), while on training batches it is {learned:.1%}.",
        evidence={**evidence, "training_accuracy": learned},
        fixes=(
            "Check that test data is prepared as training data is: the same normalisation, the same label order.",
            "Check what model.eval() changes: BatchNorm's running statistics (momentum, tiny batches), and code that "
            "looks at self.training.",
        ),
        profile=bars,
    )


def _of_scales(evaluation: Evaluation, training: Training | None, scale: InputScale, p: float) -> Finding:
    assert scale.apart is not None
    trained, tested = scale.apart
    where = f" in {scale.axis} {trained.index}" if scale.axis and scale.features > 1 else ""
    every = f", and most {scale.axis}s differ so" if where else ""
    total = sum(c.total for c in evaluation.per_class)
    accuracy = evaluation.accuracy
    commonest = max((c.total for c in evaluation.per_class), default=0) / total if total else 0.0
    fails = accuracy is not None and not (training is not None and training.harm)
    fails = fails and not _better(accuracy or 0.0, commonest, total, p)
    reached = f" Accuracy on {total:,} test samples is {accuracy:.1%}." if accuracy is not None else ""
    return Finding(
        where="test data",
        message=f"What enters {scale.layer or 'the model'} ({scale.layer_type}) of the test data has mean "
        f"{tested.mean:.3g} and standard deviation {tested.std:.3g}{where}, and of the training data "
        f"{trained.mean:.3g} and {trained.std:.3g}{every}: they are not prepared in the same way.{reached}",
        evidence={"mean": trained.mean, "std": trained.std, "test_mean": tested.mean, "test_std": tested.std},
        fixes=(
            "Prepare test data as training data: the same transforms, with the mean and standard deviation of the "
            "training data.",
        ),
        severity=None if fails else "warning",
    )


def _nan(evaluation: Evaluation) -> Finding:
    return Finding(
        where="test data",
        message=f"In evaluation mode the output for {evaluation.nan_samples:,} of {evaluation.samples:,} test samples "
        "is NaN, though nothing in training is.",
        evidence={"nan_samples": evaluation.nan_samples, "samples": evaluation.samples, "limit": 0},
        fixes=(
            "Look for a mask that hides every position of a sample (True hides in key_padding_mask), a division by a "
            "count of zero, or NaN in the test data.",
        ),
    )


def _better(accuracy: float, chance: float, samples: int, p: float) -> bool:
    """Whether so many correct answers or more happen by chance with probability below p (one-sided binomial)."""
    if not accuracy > chance:
        return False
    if chance >= 1:
        return False
    correct = round(accuracy * samples)
    return binomial_tail(correct, samples, chance) < p
