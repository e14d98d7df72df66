"""Small models of timm's families, as people make them: name -> further options of create_model."""

from __future__ import annotations

from typing import Any

from torch import nn

SMALL: dict[str, dict[str, Any]] = {
    # convolutions
    "resnet10t": {},
    "resnet18": {},
    "mobilenetv3_small_050": {},
    "efficientnet_b0": {},
    "lcnet_035": {},
    "regnetx_002": {},
    "regnety_002": {},
    "densenet121": {},
    "ghostnet_050": {},
    "repvgg_a0": {},
    "hrnet_w18_small": {},
    "nf_resnet26": {},
    "test_nfnet": {},
    "convnext_atto": {},
    "inception_next_atto": {},
    "starnet_s050": {},
    "mambaout_femto": {},
    "rexnet_100": {},
    "dla34": {},
    # transformers and mixers
    "test_vit": {},
    "vit_tiny_patch16_224": {"depth": 3},
    "deit_tiny_distilled_patch16_224": {"depth": 3},
    "beit_base_patch16_224": {"embed_dim": 96, "depth": 2, "num_heads": 3},
    "eva02_tiny_patch14_224": {"depth": 2},
    "cait_xxs24_224": {"depth": 4, "img_size": 64},
    "xcit_nano_12_p16_224": {"depth": 4, "img_size": 64},
    "swin_tiny_patch4_window7_224": {"embed_dim": 24, "depths": (1, 1, 1, 1)},
    "davit_tiny": {"embed_dims": (24, 48, 96, 192), "depths": (1, 1, 1, 1)},
    "tiny_vit_5m_224": {"depths": (1, 1, 1, 1)},
    "twins_svt_small": {"depths": (1, 1, 1, 1), "img_size": 64},
    "pvt_v2_b0": {},
    "convit_tiny": {"depth": 11, "img_size": 64},
    "pit_ti_224": {"img_size": 64},
    "mixer_s32_224": {"img_size": 64},
    "gmlp_ti16_224": {"img_size": 64},
    "resmlp_12_224": {"img_size": 64},
    # both
    "levit_128s": {},
    "mobilevit_xxs": {},
    "poolformer_s12": {},
    "coatnet_pico_rw_224": {"img_size": 64},
    "maxvit_pico_rw_256": {"img_size": 64},
    "edgenext_xx_small": {},
    "fastvit_t8": {"layers": (1, 1, 1, 1)},
    "efficientformer_l1": {"depths": (1, 1, 1, 2)},
    "efficientvit_b0": {},
    "repvit_m0_9": {},
    # lists of feature maps
    "resnet18:features": {"features_only": True},
    "mobilenetv3_small_050:features": {"features_only": True},
    "convnext_atto:features": {"features_only": True, "out_indices": (1, 2)},
    "test_vit:features": {"features_only": True},
    "resnet18:headless": {"num_classes": 0},
}


def build(name: str) -> nn.Module:
    """The model with ten classes, randomly initialised."""
    import timm

    return timm.create_model(name.partition(":")[0], **{"pretrained": False, "num_classes": 10, **SMALL[name]})
