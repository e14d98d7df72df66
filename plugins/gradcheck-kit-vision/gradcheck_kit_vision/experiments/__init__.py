"""The experiments of this pack, one file each."""

from __future__ import annotations

from gradcheck_kit.experiments import Experiment
from gradcheck_kit_vision.experiments.batch_norm import count_values
from gradcheck_kit_vision.experiments.layout import look_at_layout
from gradcheck_kit_vision.experiments.pipeline import look_at_pipeline
from gradcheck_kit_vision.experiments.pretrained import compare_with_weights
from gradcheck_kit_vision.facts import BatchNormValues, ImageLayout, ImagePipeline, PretrainedInput

EXPERIMENTS = (
    Experiment(ImageLayout, look_at_layout),
    Experiment(ImagePipeline, look_at_pipeline),
    Experiment(PretrainedInput, compare_with_weights, after=(ImagePipeline,)),
    Experiment(BatchNormValues, count_values),
)
