"""What a configuration states about text and images is kept to."""

from __future__ import annotations

import types

import pytest
import torch
from torch import nn

from gradcheck_kit.target.conventions import Vocabulary, stated, stated_size, vocabulary
from gradcheck_kit.target.input_specs import Spec
from gradcheck_kit.target.inputs import synthesize_inputs


def config(**values):
    return types.SimpleNamespace(**values)


def holding(**attributes):
    model = nn.Sequential(nn.Embedding(12, 4), nn.Flatten(), nn.Linear(64, 2))
    for name, value in attributes.items():
        setattr(model, name, value)
    return model


def text_of(model):
    inputs = synthesize_inputs(model, 50, generator=torch.Generator().manual_seed(0))
    return next(iter(inputs.values if isinstance(inputs.values, tuple) else inputs.values.values()))


def test_it_draws_no_special_tokens_and_ends_each_text_once():
    text = text_of(holding(config=config(vocab_size=12, pad_token_id=0, bos_token_id=1, eos_token_id=2)))
    assert (text[:, -1] == 2).all()
    assert set(text[:, :-1].unique().tolist()) == set(range(3, 12))


def test_it_writes_no_end_that_is_also_padding():
    text = text_of(holding(config=config(vocab_size=12, pad_token_id=5, eos_token_id=5)))
    assert 5 not in text


def test_it_ignores_special_tokens_beyond_the_vocabulary():
    text = text_of(holding(config=config(vocab_size=12, eos_token_id=50256)))
    assert set(text.unique().tolist()) == set(range(12))


def test_it_draws_as_ever_where_nothing_is_stated():
    drawn = Spec("token", (5,), bound=9).make(4, torch.float32, torch.device("cpu"), torch.Generator().manual_seed(1))
    assert torch.equal(drawn, torch.randint(9, (4, 5), generator=torch.Generator().manual_seed(1)))


def test_it_reads_the_configurations_inside_a_configuration():
    model = holding(
        config=config(text_config=config(vocab_size=7, eos_token_id=3), vision_config=config(image_size=48))
    )
    assert vocabulary(model) == Vocabulary(7, (3,), 3)
    assert stated_size(model) == 48


def test_it_reads_nothing_of_a_module_called_config():
    assert stated(holding(config=nn.Linear(2, 2)), "in_features") is None


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ({"image_size": 40}, 40),
        ({"config": config(image_size=[40, 30])}, 40),
        ({"pretrained_cfg": {"input_size": (3, 72, 72), "fixed_input_size": True}}, 72),
        ({"default_cfg": {"input_size": (3, 72, 72)}}, None),
        ({}, None),
    ],
)
def test_it_reads_the_size_of_images(attributes, size):
    model = nn.Module()
    for name, value in attributes.items():
        setattr(model, name, value)
    assert stated_size(model) == size


def test_it_reads_the_size_of_the_layer_that_cuts_patches():
    patches = nn.Conv2d(3, 8, 8, 8)
    patches.img_size = (56, 56)
    assert stated_size(nn.Sequential(nn.Identity(), nn.Sequential(patches))) == 56


def test_it_offers_texts_to_choose_among_before_texts_of_one_token():
    class Choice(nn.Module):
        main_input_name = "input_ids"

        def __init__(self):
            super().__init__()
            self.config = config(vocab_size=12)
            self.embed, self.score = nn.Embedding(12, 4), nn.Linear(4, 1)

        def forward(self, input_ids=None, attention_mask=None):
            choices = input_ids.shape[1]
            flat = input_ids.view(-1, input_ids.shape[-1])
            return self.score(self.embed(flat).mean(1)).view(-1, choices)

    assert text_of(Choice()).shape == (50, 2, 16)


def test_it_gives_an_argument_that_the_message_names():
    class Both(nn.Module):
        main_input_name = "pixel_values"

        def __init__(self):
            super().__init__()
            self.embed, self.net = nn.Embedding(12, 4), nn.Conv2d(3, 4, 3)

        def forward(self, pixel_values=None, input_ids=None, scale=None):
            if input_ids is None:
                raise ValueError("You have to specify input_ids")
            return self.net(pixel_values).mean((2, 3)) + self.embed(input_ids).mean(1)

    inputs = synthesize_inputs(Both(), 4, generator=torch.Generator())
    assert list(inputs.values) == ["pixel_values", "input_ids"]
