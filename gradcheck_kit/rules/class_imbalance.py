from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from gradcheck_kit.facts import DataSummary, Evaluation, LossCalls
from gradcheck_kit.rule import Bar, Finding, Skip, rule

MANY = 12  # classes
DENSE = 50.0  # times, of one label per pixel: there some background is the rule
ENOUGH = 20  # samples of a class, of which even a poor model gets one right


@rule("GK504", needs=(DataSummary, LossCalls, Evaluation), explains=("GK601",), severity="warning")
def class_imbalance(
    data: DataSummary, loss_calls: LossCalls, evaluation: Evaluation, *, ratio: float = 10.0
) -> Iterator[Finding]:
    """The commonest class has more than `ratio` times the samples of another, which the model then never predicts.

    Silent where the loss is weighted or focal, or the sampler is one's own: somebody has seen to it. What a
    WeightedRandomSampler draws is counted as it is drawn: it may have made things worse.
    """
    if data.synthetic:
        raise Skip("the data is made up")
    if len(data.labels) < 2 or (not data.label_batches and len(data.labels) > MANY):
        raise Skip("there are no class labels, one per sample or pixel")
    if any(target.mean is None or math.isnan(target.mean) for target in data.targets):
        raise Skip("the labels hold NaN (see non-finite-input)")
    if data.order == "own":
        raise Skip("the loader has a sampler of its own")
    if data.order == "sequential" and data.spread_labels:
        raise Skip("the data is read in its order, so the first batches do not tell how common a class is")
    counts = _counts(data, loss_calls)
    if len(counts) < 2:
        raise Skip("all labels that count are of one class")
    ratio = ratio if data.label_batches else max(ratio, DENSE)
    commonest = max(counts, key=lambda label: counts[label])
    if counts[commonest] <= ratio * min(counts.values()):
        return
    if len(counts) > MANY and 2 * counts[commonest] < sum(counts.values()):
        raise Skip("of so many classes, none of which dominates, the rare ones may come late, as letters of a text do")
    if len(loss_calls.calls) != 1 or not loss_calls.calls[0].is_the_loss or loss_calls.calls[0].weighted:
        raise Skip("the loss is weighted, or more than a plain cross-entropy")
    predicted = dict(evaluation.predicted) | dict(evaluation.trained_predicted)
    tested: Counter[int] = Counter()
    for one in (*evaluation.per_class, *evaluation.trained_per_class):
        tested[one.label] += one.total
    missed = [
        label
        for label, count in counts.items()
        if counts[commonest] > ratio * count and tested[label] >= ENOUGH and not predicted.get(label)
    ]
    if not missed:
        raise Skip(
            f"classes differ by {counts[commonest] / min(counts.values()):.0f} times, and none is left out for it"
        )
    rarest = min(missed, key=lambda label: counts[label])
    kind = "samples" if data.label_batches else "places"
    yield Finding(
        where="labels",
        message=f"Class {commonest} has {counts[commonest]:,} of {sum(counts.values()):,} {kind} and class {rarest} "
        f"{counts[rarest]:,}, {counts[commonest] / counts[rarest]:.0f} times fewer (up to {ratio:g} is balanced); of "
        f"{tested[rarest]:,} {kind} of class {rarest} the model recognises 0 and never answers {rarest}."
        + (" The loader's WeightedRandomSampler draws them so." if data.order == "weighted" else ""),
        evidence={"ratio": counts[commonest] / counts[rarest], "limit": ratio, "missed": missed},
        fixes=tuple(_fixes(data, counts, binary="binary" in loss_calls.calls[0].function)),
        profile=tuple(Bar(f"class {label}", kind, float(count)) for label, count in sorted(counts.items())[:12]),
    )


def _counts(data: DataSummary, loss_calls: LossCalls) -> dict[int, int]:
    """How often each class that an output stands for occurs: -100 and 255 say that a place does not count."""
    shape = loss_calls.calls[0].input_shape if loss_calls.calls else ()
    classes = shape[1] if len(shape) > 1 and loss_calls.calls[0].function == "cross_entropy" else math.inf
    return {label: count for label, count in data.labels if 0 <= label < classes}


def _fixes(data: DataSummary, counts: dict[int, int], *, binary: bool) -> Iterator[str]:
    total = sum(counts.values())
    if data.order == "weighted":
        yield "Give the WeightedRandomSampler 1 / count of each sample's class as weights, not the count or its share."
        return
    if binary and counts.get(1) and counts.get(0):
        yield f"Give the loss pos_weight=torch.tensor({counts[0] / counts[1]:.3g}), negatives over positives."
    elif sorted(counts) == list(range(len(counts))) and len(counts) <= 12:
        weights = ", ".join(f"{total / (len(counts) * counts[label]):.3g}" for label in sorted(counts))
        yield f"Give the loss weights, CrossEntropyLoss(weight=torch.tensor([{weights}]))."
    else:
        yield "Give the loss weights, one per class: total / (classes * count), with the counts of the training data."
    if not data.label_batches:
        yield "Or add a loss that looks at overlap, such as Dice's, which is the same however large the background is."
        return
    yield "Draw rare classes more often: torch.utils.data.WeightedRandomSampler with 1 / count of each sample's class."
