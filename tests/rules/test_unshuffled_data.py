from __future__ import annotations

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.unshuffled_data import unshuffled_data
from gradcheck_kit.testing import apply, data_summary

SPREAD = tuple((label, 32) for label in range(10))


def in_order(*batches, **changes):
    """Batches with (class, count) pairs, read in the order of the data set."""
    labels: dict[int, int] = {}
    for label, n in (pair for batch in batches for pair in batch):
        labels[label] = labels.get(label, 0) + n
    sizes = tuple(sum(n for _, n in batch) for batch in batches)
    made = {"order": "sequential", "label_batches": batches, "sizes": sizes, "labels": tuple(labels.items())}
    return data_summary(**{**made, **changes})


SORTED = tuple(((batch // 4, 64),) for batch in range(16))
MIXED = tuple(tuple((label, 16) for label in range(4)) for _ in range(16))


def test_it_gives_the_chance_within_a_batch_and_in_the_whole():
    (finding,) = apply(unshuffled_data, in_order(*SORTED))
    assert finding.message.startswith("16 of the first 16 batches are of one class (nine samples in ten or more);")
    assert "in 100% of cases, two samples of the whole data in 25%" in finding.message
    assert finding.fixes == ("Pass shuffle=True to the training DataLoader.",)
    assert [bar.kind for bar in finding.profile][:5] == ["class 0"] * 4 + ["class 1"]
    assert finding.severity is None


def test_it_looks_at_the_whole_data_where_the_first_batches_are_of_one_class():
    first = in_order(*[((0, 64),)] * 16, spread_labels=SPREAD)
    (finding,) = apply(unshuffled_data, first)
    assert finding.evidence["whole"] == pytest.approx(0.097, abs=0.01)


def test_it_finds_sorted_batches_with_a_boundary_between_two_classes():
    batches = [((k, 64),) for k in range(10)] + [((9, 30), (10, 34))]
    (finding,) = apply(unshuffled_data, in_order(*batches))
    assert finding.severity is None


def test_it_warns_of_batches_that_are_mostly_of_one_class():
    batches = [((k % 4, 52), ((k + 1) % 4, 12)) for k in range(16)]
    (finding,) = apply(unshuffled_data, in_order(*batches))
    assert finding.severity == "warning"


def test_it_passes_data_that_is_stored_mixed():
    assert apply(unshuffled_data, in_order(*MIXED)) == ()


@pytest.mark.parametrize("order", ["shuffled", "weighted"])
def test_it_skips_samples_that_are_drawn(order):
    with pytest.raises(Skip, match="drawn at random"):
        apply(unshuffled_data, in_order(*SORTED, order=order))


IN_BLOCKS = [((k // 4, 64),) for k in range(16)]


@pytest.mark.parametrize("order", ["own", "stream", "batches"])
def test_it_warns_of_a_sampler_that_shuffles_only_within_blocks_of_a_class(order):
    (finding,) = apply(unshuffled_data, in_order(*IN_BLOCKS, order=order))
    assert finding.severity == "warning"
    assert "your sampler or loader keeps that order" in finding.message
    assert "torch.randperm" in finding.fixes[0]


@pytest.mark.parametrize(
    "batches",
    [[((k % 2, 64),) for k in range(16)], [((k // 4, 52), (4, 12)) for k in range(16)]],
    ids=["classes in turn", "mostly of one class"],
)
def test_it_skips_other_orders_of_ones_own(batches):
    with pytest.raises(Skip, match="in no order"):
        apply(unshuffled_data, in_order(*batches, order="own"))


def test_it_skips_what_has_no_class_per_sample():
    with pytest.raises(Skip, match="no class labels"):
        apply(unshuffled_data, data_summary(order="sequential", label_batches=(), labels=()))


def test_it_skips_data_of_one_class():
    with pytest.raises(Skip, match="nearly all samples are of one class"):
        apply(unshuffled_data, in_order(*[((0, 64),)] * 16, spread_labels=((0, 32),)))


def test_it_skips_tiny_batches():
    with pytest.raises(Skip, match="no class labels, one per sample, of several batches"):
        apply(unshuffled_data, in_order(*[((k, 2),) for k in range(16)]))


def test_it_skips_what_may_be_chance():
    with pytest.raises(Skip, match="too few to tell"):
        apply(unshuffled_data, in_order(((0, 4),), ((1, 4),)))


def test_it_skips_made_up_data():
    with pytest.raises(Skip, match="made up"):
        apply(unshuffled_data, in_order(*SORTED, synthetic=True))


def test_it_takes_the_excess_as_an_option():
    assert apply(unshuffled_data, in_order(*SORTED), excess=2.1) == ()
