"""Rules on built facts: sick, healthy look-alikes, absent, full of NaN."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from gradcheck_kit_vision.facts import (
    BatchNormValues,
    DrawnImages,
    ImageLayout,
    ImagePipeline,
    Normalization,
    NormValues,
    PretrainedInput,
)
from gradcheck_kit_vision.rules import RULES
from gradcheck_kit_vision.rules.channels_misread import channels_misread
from gradcheck_kit_vision.rules.preprocessing_mismatch import preprocessing_mismatch
from gradcheck_kit_vision.rules.pretrained_statistics import pretrained_statistics
from gradcheck_kit_vision.rules.random_test_images import random_test_images
from gradcheck_kit_vision.rules.tiny_norm_batch import tiny_norm_batch
from gradcheck_kit_vision.rules.wrong_normalization import wrong_normalization

from gradcheck_kit.testing import apply, evaluation, fact, flat, judge, poisoned, training

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalization(mean=MEAN, std=STD, **changes):
    """ImageNet's statistics on pixels of 0 to 1, as they are in photographs."""
    healthy = {
        "calls": 32, "minimum": 0.0, "maximum": 1.0, "channel_means": (0.47, 0.46, 0.41),
        "channel_stds": (0.25, 0.24, 0.26),
    }  # fmt: skip
    return fact(Normalization, mean=mean, std=std, **{**healthy, **changes})


def images(*normalizations, **changes):
    healthy = {
        "source": "ImageFolder", "samples": 32, "transforms": ("Resize", "Normalize"),
        "normalizations": normalizations, "dtype": "float32", "minimum": -2.1 if normalizations else 0.0,
        "maximum": 2.6 if normalizations else 1.0,
        "channel_means": (0.1, 0.1, 0.1) if normalizations else (0.47, 0.46, 0.41),
    }  # fmt: skip
    return fact(DrawnImages, **{**healthy, **changes})


def pipeline(train=None, test=None, **changes):
    train = train or images(normalization())
    return fact(ImagePipeline, train=train, test=test or train, **changes)


# ---- GKV101 ----


def layout(**changes):
    healthy = {"layer": "conv1", "shape": (64, 3, 32, 32), "samples": 64, "compared": 64, "roughness": 0.03,
               "roughness_if_reshaped": 0.09}  # fmt: skip
    return fact(ImageLayout, **{**healthy, **changes})


ROWS = {"shape": (64, 32, 32, 3), "colours_last": True, "row_chance": 0.001, "column_chance": 0.001}
RESHAPED = {"roughness": 0.5, "roughness_if_reshaped": 0.03, "smoother_if_reshaped": 64}


def test_it_finds_rows_that_are_read_as_channels():
    (finding,) = apply(channels_misread, layout(**ROWS))
    assert finding.where == "conv1"
    assert "reads dimension 1 as 32 channels, but the 3 colours are in the last dimension" in finding.message
    assert finding.fixes[0].startswith("Give the model x.permute(0, 3, 1, 2), of shape (3, 32, 32) per image")


def test_it_finds_memory_that_was_reshaped():
    (finding,) = apply(channels_misread, layout(**RESHAPED))
    assert "they are pixels of (32, 32, 3) images whose memory was reshaped, not permuted" in finding.message


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"roughness": 1.0, "roughness_if_reshaped": 1.0, "smoother_if_reshaped": 33},  # noise
        {"roughness": 0.05, "roughness_if_reshaped": 0.04, "smoother_if_reshaped": 64},  # hardly smoother
        {**RESHAPED, "compared": 8, "smoother_if_reshaped": 8},  # too few to tell
    ],
)
def test_it_is_silent_on_channels_first(changes):
    assert apply(channels_misread, layout(**changes)) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {**ROWS, "row_chance": 0.4},  # joints, sensors: few shades, but dimension 1 has no order
        {"shape": (64, 16, 8, 8), "roughness": None, "roughness_if_reshaped": None},
    ],
)
def test_it_skips_what_may_well_be_channels(changes):
    assert judge(channels_misread, layout(**changes)).status == "skipped"


# ---- GKV102 ----


def test_it_finds_bytes_under_statistics_of_fractions():
    bytes_ = normalization(maximum=255.0, channel_means=(120.0, 115.0, 104.0), channel_stds=(64.0, 61.0, 66.0))
    (finding,) = apply(wrong_normalization, pipeline(images(bytes_)))
    assert finding.severity is None
    assert (
        "is given pixels of 0 to 255 in the training images (ImageFolder); its numbers are for 0 to 1"
        in finding.message
    )


def test_it_finds_statistics_of_bytes_on_fractions():
    (finding,) = apply(wrong_normalization, pipeline(images(normalization((123.7, 116.3, 103.5), (58.4, 57.1, 57.4)))))
    assert "its numbers are for 0 to 255" in finding.message
    assert finding.fixes == (
        "Use Normalize((0.4851, 0.4561, 0.4059), (0.229, 0.2239, 0.2251)): the same numbers for pixels of 0 to 1.",
    )


def test_it_finds_pixels_that_were_divided_twice():
    small = normalization(maximum=1 / 255, channel_means=(0.002,) * 3, channel_stds=(0.001,) * 3)
    (finding,) = apply(wrong_normalization, pipeline(images(small)))
    assert "they were divided by 255 twice" in finding.message


def test_it_finds_images_that_are_normalised_twice():
    again = normalization(again=True, minimum=-2.1, maximum=2.6, channel_means=(0.0,) * 3, channel_stds=(1.0,) * 3)
    (finding,) = apply(wrong_normalization, pipeline(images(normalization(), again)))
    assert "has normalised already" in finding.message
    assert "means of -2.1, -2, -1.8 per channel" in finding.message


def test_it_warns_of_mean_and_std_in_each_others_place():
    (finding,) = apply(wrong_normalization, pipeline(images(normalization(STD, MEAN))))
    assert finding.severity == "warning"
    assert "these are the numbers of ImageNet in the wrong order" in finding.message


def test_it_warns_where_what_was_measured_is_swapped():
    own = normalization((0.2,), (0.7,), channel_means=(0.71,), channel_stds=(0.19,))
    (finding,) = apply(wrong_normalization, pipeline(images(own)))
    assert "it is given the std as its mean" in finding.message
    assert finding.fixes == ("Use Normalize((0.7,), (0.2,)).",)


@pytest.mark.parametrize(
    "one",
    [
        normalization(),
        normalization((0.5,), (0.5,)),
        normalization((0.0,), (1.0,), maximum=255.0, channel_means=(120.0,), channel_stds=(64.0,)),
        normalization((0.5,), (0.5,), maximum=0.1, channel_means=(0.05,), channel_stds=(0.02,)),  # dark
        normalization((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        normalization((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), maximum=255.0, channel_means=(120.0,) * 3,
                      channel_stds=(60.0,) * 3),
        normalization(channel_means=(0.13,) * 3, channel_stds=(0.31,) * 3),  # MNIST in three channels
        normalization((0.1307,), (0.3081,), channel_means=(0.13,), channel_stds=(0.31,)),
        normalization((0.3530,), (0.2860,), channel_means=(0.35,), channel_stds=(0.29,)),
        normalization(minimum=None, maximum=None, channel_means=(), channel_stds=()),  # a preset
        normalization((1200.0,), (400.0,), maximum=9000.0, channel_means=(1210.0,), channel_stds=(390.0,)),
    ],
)  # fmt: skip
def test_it_is_silent_on_statistics_that_fit(one):
    assert apply(wrong_normalization, pipeline(images(one))) == ()


def test_it_is_silent_on_a_normalize_that_undoes_another():
    undo = normalization(
        tuple(-m / s for m, s in zip(MEAN, STD, strict=True)), tuple(1 / s for s in STD), again=True, minimum=-2.1,
        maximum=2.6, channel_means=(0.0,) * 3, channel_stds=(1.0,) * 3,
    )  # fmt: skip
    once_more = normalization(again=True, minimum=-1e-7)
    assert apply(wrong_normalization, pipeline(images(normalization(), undo, once_more))) == ()


def test_it_skips_where_no_normalize_runs():
    assert judge(wrong_normalization, pipeline(images())).status == "skipped"


# ---- GKV103 ----


def test_it_finds_another_normalize_on_the_test_images():
    sides = pipeline(images(normalization()), images(normalization((0.1307,), (0.3081,))))
    (finding,) = apply(preprocessing_mismatch, sides)
    assert finding.severity is None
    assert "The same pixel comes out up to 1.7 apart" in finding.message


def test_it_warns_where_the_difference_is_small():
    (finding,) = apply(preprocessing_mismatch, pipeline(test=images(normalization(MEAN, (0.23, 0.23, 0.23)))))
    assert finding.severity == "warning"


@pytest.mark.parametrize("reverse", [False, True])
def test_it_finds_a_normalize_on_one_side_only(reverse):
    one, other = images(normalization()), images()
    (finding,) = apply(preprocessing_mismatch, pipeline(*((other, one) if reverse else (one, other))))
    without = "training" if reverse else "test"
    assert finding.fixes[0].endswith(f"to the transform of the {without} data.")


def test_it_finds_bytes_against_fractions():
    large = images(maximum=255.0, channel_means=(120.0, 117.0, 104.0))
    (finding,) = apply(preprocessing_mismatch, pipeline(images(), large))
    assert "Scale the test images as the training images are" in finding.fixes[0]


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (images(normalization()), images(normalization((0.485, 0.456, 0.40600001)))),
        (images(normalization(), normalization((0.5,), (0.5,))), images(normalization((0.5,), (0.5,)))),
        (images(normalization((0.5,), (0.5,))), images(normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))),
        (images(), images(maximum=1.2, channel_means=(0.8, 0.8, 0.8))),
        (images(maximum=9.0, channel_means=(0.4,)), images(maximum=30.0, channel_means=(0.5,))),
    ],
)
def test_it_is_silent_on_the_same_preparation(train, test):
    assert apply(preprocessing_mismatch, pipeline(train, test)) == ()


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (images(normalization()), images(minimum=-2.0)),  # by something else
        (images(minimum=-1.0), images(minimum=-1.0)),
    ],
)
def test_it_skips_what_it_cannot_compare(train, test):
    assert judge(preprocessing_mismatch, pipeline(train, test)).status == "skipped"


@pytest.mark.parametrize("rule", [preprocessing_mismatch, random_test_images])
def test_it_skips_without_test_data(rule):
    outcome = judge(rule, replace(pipeline(), test=None))
    assert (outcome.status, outcome.reason) == ("skipped", "there is no test data of its own")


# ---- GKV104 ----


def pretrained(**changes):
    sick = {
        "family": "ResNet", "layer": "bn1", "channels": 64, "maximum": 1.0, "expected_mean": MEAN, "expected_std": STD,
        "distance": 0.92, "expected_distance": 0.01, "nearer": 64,
    }  # fmt: skip
    return fact(PretrainedInput, **{**sick, **changes})


def test_it_finds_images_that_the_weights_do_not_remember():
    (finding,) = apply(pretrained_statistics, pretrained(), training())
    assert finding.severity == "warning"
    assert "the training images go through no Normalize" in finding.message


def test_it_is_an_error_where_the_run_does_not_learn():
    (finding,) = apply(pretrained_statistics, pretrained(), training(losses=flat()))
    assert finding.severity is None
    assert finding.message.endswith("the end.")


@pytest.mark.parametrize(
    "changes",
    [
        {"expected": True, "distance": None, "expected_distance": None},
        {"distance": 0.01, "expected_distance": 0.9, "nearer": 0},  # weights of one's own
        {"distance": 1.5, "expected_distance": 1.4, "nearer": 60},  # images of another kind
        {"distance": 0.02, "expected_distance": 0.008},  # CIFAR-10's statistics
        {"nearer": 33},
    ],
)
def test_it_is_silent_where_the_weights_fit(changes):
    assert apply(pretrained_statistics, pretrained(**changes), training()) == ()


# ---- GKV105 ----


def augmented(**changes):
    test = {"random": ("RandomCrop",), "changed": 8, "source": "Subset of ImageFolder"}
    return pipeline(images(), images(**{**test, **changes}), shared=True)


def test_it_finds_random_test_images():
    (finding,) = apply(random_test_images, augmented(), evaluation())
    assert finding.severity is None
    assert finding.message.startswith("RandomCrop runs on the test images (Subset of ImageFolder): 8 of 8")
    assert "share its transform" in finding.message
    assert "Make the data set twice" in finding.fixes[1]


@pytest.mark.parametrize("seen", [(), (evaluation(per_class=()),)])
def test_it_only_warns_where_nothing_is_classified(seen):
    (finding,) = apply(random_test_images, augmented(), *seen)
    assert finding.severity == "warning"


@pytest.mark.parametrize("changes", [{"changed": 0}, {"random": (), "changed": None}])
def test_it_is_silent_on_test_images_that_do_not_change(changes):
    assert apply(random_test_images, augmented(**changes), evaluation()) == ()


@pytest.mark.parametrize("changes", [{"changed": None}, {"transforms": ()}])
def test_it_skips_test_images_that_cannot_be_drawn_again(changes):
    assert judge(random_test_images, augmented(**changes), evaluation()).status == "skipped"


# ---- GKV106 ----


def norms(*values, **changes):
    layers = tuple(NormValues(f"bn{i}", "BatchNorm2d", n) for i, n in enumerate(values, 1))
    healthy = {"batch_size": 2, "shape": (3, 32, 32), "layers": layers, "dataset_size": 64, "last_batch": 2}
    return fact(BatchNormValues, **{**healthy, **changes})


def test_it_warns_of_few_values_and_names_the_layer_with_the_fewest():
    (finding,) = apply(tiny_norm_batch, norms(512, 3, 2), training())
    assert (finding.where, finding.severity) == ("bn3", "warning")
    assert "Of two numbers it makes -1 and 1" in finding.message
    assert "The same in bn2." in finding.message


def test_it_is_an_error_where_few_values_do_not_learn():
    (finding,) = apply(tiny_norm_batch, norms(512, 3), training(losses=flat()))
    assert finding.severity is None


def test_it_finds_a_last_batch_that_torch_refuses():
    refused = "Expected more than 1 value per channel when training, got input size torch.Size([1, 512, 1, 1])"
    last = norms(512, 16, batch_size=16, dataset_size=65, last_batch=1, last_error=refused, last_error_layer="bn2")
    (finding,) = apply(tiny_norm_batch, last, training())
    assert finding.severity is None
    assert finding.fixes == ("Give the training DataLoader drop_last=True.",)


@pytest.mark.parametrize("healthy", [norms(512, 4), norms(512, 16, last_batch=1)])
def test_it_is_silent_on_values_enough(healthy):
    assert apply(tiny_norm_batch, healthy, training()) == ()


def test_it_skips_made_up_data():
    assert judge(tiny_norm_batch, norms(512, 2), training(synthetic=True)).status == "skipped"


# ---- all ----

SICK = {
    channels_misread: [(layout(**ROWS),), (layout(**RESHAPED),), (layout(),)],
    pretrained_statistics: [(pretrained(), training())],
    tiny_norm_batch: [(norms(512, 2), training())],
}


@pytest.mark.parametrize(("rule", "facts"), [(r, f) for r, several in SICK.items() for f in several])
def test_it_does_not_pass_facts_full_of_nan(rule, facts):
    assert judge(rule, *(poisoned(one) for one in facts)).status in ("failed", "warned", "skipped")


@pytest.mark.parametrize("rule", [wrong_normalization, preprocessing_mismatch])
def test_it_does_not_pass_pipelines_full_of_nan(rule):
    sides = poisoned(pipeline(images(normalization()), images(normalization((0.5,), (0.5,)))))
    assert math.isnan(sides.train.minimum)
    assert judge(rule, sides).status in ("failed", "warned", "skipped")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_it_skips_what_was_not_looked_at(rule):
    assert judge(rule).status == "skipped"
