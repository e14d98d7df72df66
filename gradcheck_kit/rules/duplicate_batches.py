from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import DataSummary
from gradcheck_kit.rule import Finding, Skip, listed, rule

FEW_BATCHES, FEW_SAMPLES = 4, 4  # of a stream: fewer may be all that is wanted


@rule("GK506", needs=(DataSummary,), explains=("GK205", "GK601", "GK605"))
def duplicate_batches(data: DataSummary, *, p: float = 1e-6) -> Iterator[Finding]:
    """Batches of one epoch are equal to the last bit, and not by chance (probability below `p`), or workers repeat.

    One batch again and again is full-batch training, and the same ones in turn are an epoch that repeats: both are
    somebody's intent. So is a stream of one batch, unless it holds more samples or draws each batch anew: a warning.
    """
    if data.synthetic:
        raise Skip("the data is made up")
    if data.workers_repeat:
        yield _of_workers(data)
        return
    if data.order == "stream":
        if not _same_stream(data):
            raise Skip("a stream may draw its samples as it likes")
        if not _more_behind(data):
            raise Skip("all batches of the stream are equal, which may be all that there is")
        yield _of_stream(data)
        return
    if data.batches < 2:
        raise Skip("there is one batch only")
    if data.order == "batches" and _same_stream(data) and _more_behind(data):
        yield _of_stream(data)
        return
    copies = [i for i, first in enumerate(data.same_as) if first != i]
    if copies and min(data.sizes) >= FEW_SAMPLES and len(set(data.same_as)) == 1 and max(data.distinct) == 1:
        yield _of_samples(data)
        return
    if _comes_back(data):
        yield _of_few_samples(data)
        return
    if not math.isfinite(data.same_chance):
        raise Skip("how probable equal batches are is not known")
    if not copies:
        return
    if _one_of_many(data):
        yield _of_one_batch(data)
        return
    if _in_turn(data.same_as):
        raise Skip("the batches repeat in turn, as in full-batch training or a stream that starts again")
    copies = [i for i in copies if data.distinct[i] >= max(4, data.sizes[i] / 2)]
    if not copies or data.same_chance >= p:
        raise Skip("some batches are equal, which may be chance: they are small or hold few different samples")
    pairs = [f"{i} (as {data.same_as[i]})" for i in copies]
    chosen = {"sequential": "in order", "shuffled": "shuffled"}.get(data.order)
    yield Finding(
        where=data.source.partition(":")[0],
        message=f"{len(copies)} of the first {data.batches} batches of an epoch equal an earlier one to the last bit: "
        f"{listed(pairs, 6)}" + (f", though the loader reads its {data.dataset_size:,} samples {chosen}." if chosen and
        data.dataset_size else "."),
        evidence={"equal": len(copies), "batches": data.batches, "chance": data.same_chance, "limit": 0},
        fixes=(
            "Return sample `index` from __getitem__, and copy what a buffer that is filled again would overwrite."
            if chosen
            else "Draw every sample once per epoch: use shuffle=True in place of the sampler, and make its generator "
            "once and not in __iter__.",
        ),
        severity=None if chosen else "warning",
    )  # fmt: skip


def _in_turn(same_as: tuple[int, ...]) -> bool:
    """Whether the first few batches come again and again in the same order."""
    period = next((i for i, first in enumerate(same_as) if first != i), len(same_as))
    return all(first == i % period for i, first in enumerate(same_as))


def _one_of_many(data: DataSummary) -> bool:
    """Whether every batch of an epoch is the first, of a data set that holds more than twice as many samples."""
    more = data.dataset_size is not None and data.dataset_size > 2 * max(data.sizes)
    return more and data.batches > 2 and set(data.same_as) == {0} and max(data.distinct) >= 4


def _comes_back(data: DataSummary) -> bool:
    """Whether a loader that reads each sample once yields the same few again and again."""
    once = data.order in ("sequential", "shuffled") and data.dataset_size is not None
    few = data.distinct_samples is not None and data.distinct_samples * FEW_BATCHES <= data.samples
    return once and few and (data.distinct_samples or 0) >= FEW_SAMPLES and data.samples <= (data.dataset_size or 0)


def _of_few_samples(data: DataSummary) -> Finding:
    return Finding(
        where=data.source.partition(":")[0],
        message=f"The {data.samples:,} samples of the first {data.batches} batches of an epoch are "
        f"{data.distinct_samples} different ones, though the data set says that it has {data.dataset_size:,} and the "
        "loader reads each once.",
        evidence={"distinct": data.distinct_samples, "samples": data.samples, "dataset_size": data.dataset_size},
        fixes=(
            "Return sample `index` from __getitem__: index % n, or a list that is shorter than __len__ says, gives the "
            "same ones again.",
            "Leave this rule out (--ignore GK506) if a small data set is repeated on purpose.",
        ),
        severity="warning",
    )


def _same_stream(data: DataSummary) -> bool:
    """Whether a stream's batches are all the first, of samples that differ."""
    return data.batches >= FEW_BATCHES and set(data.same_as) == {0} and min(data.distinct) >= FEW_SAMPLES


def _more_behind(data: DataSummary) -> bool:
    """Whether the stream takes its batch from more than twice as many samples, or from none but random numbers."""
    return data.stream_draws if data.stream_holds is None else data.stream_holds > 2 * max(data.sizes)


def _of_stream(data: DataSummary) -> Finding:
    stream = "stream" if data.order == "stream" else "loader"
    held = f" the {stream} holds {data.stream_holds:,}." if data.stream_holds else f" the {stream} makes each anew."
    return Finding(
        where=data.source.partition(":")[0],
        message=f"All of the first {data.batches} batches of an epoch are the same {data.sizes[0]} samples to the last "
        f"bit, though{held}",
        evidence={"equal": data.batches - 1, "batches": data.batches, "dataset_size": data.stream_holds, "limit": 0},
        fixes=(
            "Go on from batch to batch in __iter__: take each slice where the last one ended, and make a random "
            "generator once and not for each batch."
            if data.stream_holds
            else "Make the generator once, before the loop of __iter__ or in __init__, and not for each batch.",
            f"Leave this rule out (--ignore GK506) if the {stream} is one batch on purpose.",
        ),
        severity="warning",
    )


def _of_one_batch(data: DataSummary) -> Finding:
    return Finding(
        where=data.source,
        message=f"All of the first {data.batches} batches of an epoch are the same {data.sizes[0]} samples, of a data "
        f"set of {data.dataset_size:,}: the others are not read.",
        evidence={"equal": data.batches - 1, "batches": data.batches, "dataset_size": data.dataset_size, "limit": 0},
        fixes=(
            "Make the generator of the sampler once and not in __iter__ or for each batch; or use shuffle=True in its "
            "place. To learn one batch by heart on purpose, give the loader a Subset.",
        ),
        severity="warning",
    )


def _of_samples(data: DataSummary) -> Finding:
    return Finding(
        where=data.source.partition(":")[0],
        message=f"All {data.samples:,} samples of the first {data.batches} batches are one and the same"
        + (f", of a data set that says it has {data.dataset_size:,}." if data.dataset_size else "."),
        evidence={"distinct": 1, "samples": data.samples, "limit": 2},
        fixes=("Use the index in __getitem__: it returns the same sample for all of them.",),
        severity=None if (data.dataset_size or 0) > 1 and _varies(data) else "warning",
    )


def _varies(data: DataSummary) -> bool:
    """Whether a sample holds different numbers: one of zeros is a placeholder."""
    return any(s.minimum != s.maximum for s in data.inputs)


def _of_workers(data: DataSummary) -> Finding:
    return Finding(
        where=data.source.partition(":")[0],
        message="Every worker of the loader yields the same samples: workers 0 and 1 begin with equal ones, so each "
        "sample comes once per worker in every epoch.",
        evidence={"distinct_workers": 1, "limit": 2},
        fixes=(
            "Split the stream in __iter__: info = torch.utils.data.get_worker_info(), then "
            "itertools.islice(samples, info.id, None, info.num_workers).",
            "Use num_workers=0, or a data set with __getitem__ and __len__.",
        ),
    )
