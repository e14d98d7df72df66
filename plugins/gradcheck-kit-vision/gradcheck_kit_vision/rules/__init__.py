"""The rules of this pack, one file each."""

from __future__ import annotations

from gradcheck_kit import Rule
from gradcheck_kit_vision.rules.channels_misread import channels_misread
from gradcheck_kit_vision.rules.preprocessing_mismatch import preprocessing_mismatch
from gradcheck_kit_vision.rules.pretrained_statistics import pretrained_statistics
from gradcheck_kit_vision.rules.random_test_images import random_test_images
from gradcheck_kit_vision.rules.tiny_norm_batch import tiny_norm_batch
from gradcheck_kit_vision.rules.wrong_normalization import wrong_normalization

RULES: tuple[Rule, ...] = (
    channels_misread,
    wrong_normalization,
    preprocessing_mismatch,
    pretrained_statistics,
    random_test_images,
    tiny_norm_batch,
)
