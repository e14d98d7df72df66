from __future__ import annotations

from dataclasses import replace

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.duplicate_batches import duplicate_batches
from gradcheck_kit.testing import apply, data_summary, judge, poisoned, tensor_summary


def batches(*same_as, size=64, **changes):
    n = len(same_as)
    return data_summary(**{"batches": n, "sizes": (size,) * n, "same_as": same_as, "distinct": (size,) * n, **changes})


def test_it_names_the_equal_batches_and_how_they_were_chosen():
    (finding,) = apply(duplicate_batches, batches(0, 1, 1, 3, 0, 5))
    assert finding.message == (
        "2 of the first 6 batches of an epoch equal an earlier one to the last bit: 2 (as 1) and 4 (as 0), though the "
        "loader reads its 2,048 samples shuffled."
    )
    assert finding.fixes[0].startswith("Return sample `index` from __getitem__")
    assert finding.severity is None


@pytest.mark.parametrize("order", ["own", "weighted", "batches"])
def test_it_only_warns_where_somebody_else_chose_them(order):
    (finding,) = apply(duplicate_batches, batches(0, 1, 1, 3, order=order))
    assert finding.severity == "warning"
    assert finding.message.endswith("2 (as 1).")


def test_it_finds_a_data_set_of_one_sample():
    (finding,) = apply(duplicate_batches, batches(0, 0, 0, distinct=(1, 1, 1)))
    assert finding.message == (
        "All 2,048 samples of the first 3 batches are one and the same, of a data set that says it has 2,048."
    )
    assert finding.severity is None


def test_it_only_warns_of_placeholders():
    zeros = tensor_summary(minimum=0.0, maximum=0.0, mean=0.0, std=0.0)
    (finding,) = apply(duplicate_batches, batches(0, 0, 0, distinct=(1, 1, 1), inputs=(zeros,)))
    assert finding.severity == "warning"


def test_it_finds_workers_that_repeat_each_other():
    (finding,) = apply(duplicate_batches, data_summary(workers_repeat=True, order="stream"))
    assert "once per worker" in finding.message
    assert "get_worker_info" in finding.fixes[0]


@pytest.mark.parametrize("same_as", [(0, 0, 0, 0), (0, 1, 2, 0, 1, 2, 0)])
def test_it_skips_batches_that_repeat_in_turn(same_as):
    with pytest.raises(Skip, match="repeat in turn"):
        apply(duplicate_batches, batches(*same_as, dataset_size=len(set(same_as)) * 64))


def test_it_warns_of_one_batch_of_a_data_set_that_holds_more():
    (finding,) = apply(duplicate_batches, batches(0, 0, 0, 0, order="own"))
    assert finding.severity == "warning"
    assert finding.message == (
        "All of the first 4 batches of an epoch are the same 64 samples, of a data set of 2,048: the others are not "
        "read."
    )


def test_it_skips_one_batch_that_is_all_there_is_to_know():
    with pytest.raises(Skip, match="repeat in turn"):
        apply(duplicate_batches, batches(0, 0, 0, dataset_size=None))


@pytest.mark.parametrize("changes", [{"size": 2}, {"distinct": (3, 3, 3, 3)}, {"same_chance": 0.2}])
def test_it_skips_what_may_be_chance(changes):
    with pytest.raises(Skip, match="may be chance"):
        apply(duplicate_batches, batches(0, 1, 1, 3, **changes))


def test_it_skips_a_stream_that_is_read_on_from_where_it_was():
    with pytest.raises(Skip, match="as it likes"):
        apply(duplicate_batches, batches(0, 0, 2, 3, order="stream"))


def stream(*same_as, **changes):
    return batches(*same_as, **{"order": "stream", "dataset_size": None, **changes})


def test_it_warns_of_a_stream_that_makes_the_same_batch_anew():
    (finding,) = apply(duplicate_batches, stream(0, 0, 0, 0, stream_draws=True))
    assert finding.severity == "warning"
    assert finding.message == (
        "All of the first 4 batches of an epoch are the same 64 samples to the last bit, though the stream makes each "
        "anew."
    )
    assert finding.fixes[0].startswith("Make the generator once")


def test_it_warns_of_a_stream_that_holds_more_than_it_yields():
    (finding,) = apply(duplicate_batches, stream(0, 0, 0, 0, stream_holds=1500))
    assert finding.severity == "warning"
    assert finding.message.endswith("though the stream holds 1,500.")
    assert finding.fixes[0].startswith("Go on from batch to batch")


def test_it_warns_of_a_loader_of_ones_own_that_never_moves_on():
    (finding,) = apply(duplicate_batches, stream(0, 0, 0, 0, order="batches", stream_holds=1500))
    assert finding.severity == "warning"
    assert finding.message.endswith("though the loader holds 1,500.")


def test_it_skips_a_loader_of_ones_own_that_holds_no_more():
    with pytest.raises(Skip, match="repeat in turn"):
        apply(duplicate_batches, stream(0, 0, 0, 0, order="batches", stream_holds=64, same_chance=1e-9))


@pytest.mark.parametrize("changes", [{}, {"stream_holds": 64, "stream_draws": True}, {"stream_holds": 100}])
def test_it_skips_a_stream_of_one_batch_that_may_be_all_there_is(changes):
    with pytest.raises(Skip, match="may be all that there is"):
        apply(duplicate_batches, stream(0, 0, 0, 0, **changes))


@pytest.mark.parametrize("data", [stream(0, 0, 0), stream(0, 0, 0, 0, distinct=(3, 3, 3, 3)), stream(0, 0, 0, 3)])
def test_it_skips_streams_of_few_batches_few_samples_or_others(data):
    with pytest.raises(Skip, match="as it likes"):
        apply(duplicate_batches, replace(data, stream_draws=True))


def test_it_skips_one_batch():
    with pytest.raises(Skip, match="one batch only"):
        apply(duplicate_batches, batches(0))


def test_it_skips_made_up_data():
    with pytest.raises(Skip, match="made up"):
        apply(duplicate_batches, batches(0, 1, 1, 3, synthetic=True))


@pytest.mark.parametrize("workers_repeat", [None, False])
def test_it_passes_batches_that_all_differ(workers_repeat):
    assert apply(duplicate_batches, data_summary(workers_repeat=workers_repeat)) == ()


def test_it_does_not_pass_a_chance_that_is_not_known():
    assert judge(duplicate_batches, poisoned(data_summary())).status == "skipped"


def few(**changes):
    """Twelve batches of which no two are equal, of 32 samples."""
    return batches(*range(12), **{"distinct_samples": 32, "samples": 768, "dataset_size": 1600, **changes})


def test_it_warns_of_a_few_samples_that_come_again_and_again():
    outcome = judge(duplicate_batches, few())
    assert outcome.status == "warned"
    assert outcome.findings[0].message == (
        "The 768 samples of the first 12 batches of an epoch are 32 different ones, though the data set says that it "
        "has 1,600 and the loader reads each once."
    )


@pytest.mark.parametrize(
    "changes",
    [{"distinct_samples": None}, {"distinct_samples": 500}, {"order": "weighted"}, {"dataset_size": 200}],
    ids=["too few numbers", "different ones", "drawn with replacement", "more than one epoch"],
)
def test_it_passes_samples_that_may_well_be_equal(changes):
    assert apply(duplicate_batches, few(**changes)) == ()
