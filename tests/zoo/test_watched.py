"""Other people's models in a loop that is watched: every layer is seen, nothing is lost on the way, nothing stays."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import gradcheck_kit as gk
from gradcheck_kit.facts import Training

TORCHVISION = ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1", "densenet121", "convnext_tiny")
TIMM = ("resnet10t", "convnext_atto", "mobilevitv2_050", "levit_128s", "ghostnet_050", "xcit_nano_12_p16_224")


def torchvision_model(name):
    from torchvision import models

    return models.get_model(name, weights=None, num_classes=10), torch.randn(2, 3, 64, 64)


def timm_model(name):
    timm = pytest.importorskip("timm")
    size = timm.create_model(name).default_cfg["input_size"] if "levit" in name or "xcit" in name else (3, 64, 64)
    return timm.create_model(name, num_classes=10), torch.randn(2, *size)


def transformers_model(name):
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "num_labels": 10}
    configuration = {
        "bert": transformers.BertConfig(**sizes, intermediate_size=32),
        "gpt2": transformers.GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=2, num_labels=10, pad_token_id=0),
        "llama": transformers.LlamaConfig(**sizes, intermediate_size=32, num_key_value_heads=1, pad_token_id=0),
    }[name]
    return transformers.AutoModelForSequenceClassification.from_config(configuration), torch.randint(1, 64, (2, 12))


@pytest.mark.parametrize(
    ("make", "name"),
    [(make, name) for make, names in ((torchvision_model, TORCHVISION), (timm_model, TIMM),
                                      (transformers_model, ("bert", "gpt2", "llama"))) for name in names],
)  # fmt: skip
def test_it_is_watched_and_left_as_it_was(make, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # timm's and transformers' own
        model, x = make(name)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    y = torch.tensor([1, 2])
    with gk.Monitor(model, optimizer=optimizer, every=1) as monitor:
        for _ in range(2):
            output = model(x)
            output = getattr(output, "logits", output)
            nn.functional.cross_entropy(output[0] if isinstance(output, tuple) else output, y).backward()
            optimizer.step()
            optimizer.zero_grad()
    training = monitor.trace.facts[Training]
    assert not [note for note in monitor.trace.header.supplied if "is not watched" in note]
    assert training.recorded == (0, 1)
    ran = {o.module for o in training.outputs}
    weights = [p for p in training.parameters if p.layer in ran and p.is_weight]
    assert len(weights) > 4
    assert all(value is not None for p in weights for value in (*p.gradient_rms, *p.update_rms))
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())
