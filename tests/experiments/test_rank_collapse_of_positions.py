"""What layers make of the differences between positions, and the run with residual connections around them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.rank_collapse import look_at_rank_collapse
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import Training


class Alone(nn.Module):
    def __init__(self, residual):
        super().__init__()
        self.attention, self.residual = nn.MultiheadAttention(16, 2, batch_first=True), residual

    def forward(self, x):
        mixed = self.attention(x, x, x, need_weights=False)[0]
        return x + mixed if self.residual else mixed


class Tagger(nn.Module):
    def __init__(self, residual=False, depth=4):
        super().__init__()
        self.embed, self.head = nn.Embedding(12, 16), nn.Linear(16, 3)
        self.blocks = nn.Sequential(*[Alone(residual) for _ in range(depth)])

    def forward(self, x):
        return self.head(self.blocks(self.embed(x)))


@pytest.fixture
def words():
    x = torch.randint(0, 12, (256, 8), generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(x, x % 3), 32, shuffle=True)


def loss_fn(out, y):
    return nn.functional.cross_entropy(out.flatten(0, 1), y.flatten())


def look(probe_of, model, data, loss_fn=loss_fn, **settings):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    probe = probe_of(model, train=data, loss_fn=loss_fn, optimizer=optimizer, **{"steps": 40, **settings})
    probe.facts = {Training: train(probe)}
    return look_at_rank_collapse(probe)


def test_positions_collapse_where_attention_is_alone(probe_of, words):
    torch.manual_seed(0)
    model = Tagger()
    before = [p.clone() for p in model.parameters()]
    facts = look(probe_of, model, words)
    assert [layer.layer for layer in facts.layers] == [f"blocks.{i}" for i in range(4)]
    assert facts.positions == 8
    assert facts.layers[0].before > 0.5
    assert facts.layers[-1].after < 1e-4
    assert facts.residual_after > 0.3
    assert facts.residual_losses[-1] < 0.2 * facts.residual_losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not any(m._forward_hooks for m in model.modules())


def test_attention_inside_a_residual_stream_is_left_alone(probe_of, words):
    """The attention of each block does draw positions together; what the block adds it to keeps them apart."""
    torch.manual_seed(0)
    facts = look(probe_of, Tagger(residual=True), words)
    assert facts.residual_losses == ()


def test_quick_makes_no_second_run(probe_of, words):
    torch.manual_seed(0)
    assert look(probe_of, Tagger(), words, quick=True).residual_losses == ()


def test_says_nothing_of_a_model_without_positions(probe_of, mlp, blobs):
    with pytest.raises(NotApplicable, match="no two layers of a type"):
        look(probe_of, mlp(4, 16, 16, 2), blobs(), nn.CrossEntropyLoss())


def test_says_nothing_of_a_single_layer(probe_of, words):
    with pytest.raises(NotApplicable, match="no two layers of a type"):
        look(probe_of, Tagger(depth=1), words)
