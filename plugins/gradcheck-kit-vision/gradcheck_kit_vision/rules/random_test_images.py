from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit import Finding, Skip, rule
from gradcheck_kit.facts import Evaluation
from gradcheck_kit.rule import listed
from gradcheck_kit_vision.facts import ImagePipeline


@rule("GKV105", needs=(ImagePipeline,), uses=(Evaluation,))
def random_test_images(pipeline: ImagePipeline, evaluation: Evaluation | None) -> Iterator[Finding]:
    """Random transforms change the test images: every evaluation is of other images, and of harder ones.

    Shown by drawing the same samples again. An error for a classifier, else a warning: views drawn at random may be
    what a model without labels is tested on.
    """
    test = pipeline.test
    if test is None:
        raise Skip("there is no test data of its own")
    if not test.transforms:
        raise Skip("no transform of torchvision's ran while test samples were drawn")
    if not test.random:
        return
    if test.changed is None:
        raise Skip("the test data is a stream, of which no sample can be drawn again")
    if not test.changed:
        return
    names = listed(test.random)
    verb = "runs" if len(test.random) == 1 else "run"
    classifies = evaluation is not None and bool(evaluation.per_class)
    several = "CutMix" in test.random or "MixUp" in test.random
    yield Finding(
        where="test data",
        message=f"{names} {verb} on the test images ({test.source}): {test.changed} of "
        f"{_drawn(test.samples)} test samples that were drawn again came out different; none should."
        + (" Training and test data are parts of one data set and share its transform." if pipeline.shared else ""),
        evidence={"changed": test.changed, "limit": 0, "transforms": list(test.random)},
        fixes=(
            f"Take {names} out of the test data's {'collate function' if several else 'transform'}; Resize, "
            "CenterCrop, ToTensor and Normalize may stay.",
            *(
                (
                    "Make the data set twice, with the training and with the test transform, and take each part from "
                    "its own: Subset(train_set, train_indices), Subset(test_set, test_indices).",
                )
                if pipeline.shared
                else ()
            ),
        ),
        severity=None if classifies else "warning",
    )


def _drawn(samples: int) -> int:
    return min(samples, 8)
