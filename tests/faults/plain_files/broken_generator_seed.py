"""Figures drawn on the fly by an iterable dataset."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset


class Ellipses(IterableDataset):
    """Batches of noisy ellipses; the target is (centre, log axes)."""

    def __init__(self, seed, batches=30, batch_size=32, size=20):
        self.seed, self.batches, self.batch_size, self.size = seed, batches, batch_size, size

    def draw(self, rng):
        side = np.linspace(-1, 1, self.size)
        c = rng.uniform(-0.5, 0.5, (self.batch_size, 2))
        ax = rng.uniform(-0.4, 0.4, (self.batch_size, 2))
        r = np.exp(ax) * 0.4
        dx = (side[None, None, :] - c[:, 0, None, None]) / r[:, 0, None, None]
        dy = (side[None, :, None] - c[:, 1, None, None]) / r[:, 1, None, None]
        img = (dx ** 2 + dy ** 2 < 1) + rng.normal(0, 0.15, (self.batch_size, self.size, self.size))
        x = torch.tensor((img - 0.12) / 0.35, dtype=torch.float32)[:, None]
        return x, torch.tensor(np.concatenate([c, ax], 1) / 0.27, dtype=torch.float32)

    def __iter__(self):
        for _ in range(self.batches):
            rng = np.random.default_rng(self.seed)
            yield self.draw(rng)


model = nn.Sequential(
    nn.Conv2d(1, 12, 5, stride=2), nn.ReLU(),
    nn.Conv2d(12, 24, 3, stride=2), nn.ReLU(),
    nn.Flatten(), nn.Linear(24 * 9, 48), nn.ReLU(), nn.Linear(48, 4))

train_loader = DataLoader(Ellipses(seed=0), batch_size=None)
test_loader = DataLoader(Ellipses(seed=1, batches=5), batch_size=None)
loss_fn = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
