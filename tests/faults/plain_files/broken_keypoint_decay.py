"""Keypoint regression with soft-argmax over predicted heat maps."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def make_blobs(n, seed, size=20):
    rng = np.random.default_rng(seed)
    c = rng.uniform(-0.8, 0.8, (n, 2))
    side = np.linspace(-1, 1, size)
    d = (side[None, :, None] - c[:, 1, None, None]) ** 2 + (side[None, None, :] - c[:, 0, None, None]) ** 2
    img = np.exp(-d / 0.05) + rng.normal(0, 0.1, d.shape)
    return torch.tensor((img - 0.04) / 0.2, dtype=torch.float32)[:, None], torch.tensor(c, dtype=torch.float32)


class SoftArgmax(nn.Module):
    def forward(self, heat):
        b, _, h, w = heat.shape
        p = heat.flatten(1).softmax(1).view(b, h, w)
        ys, xs = torch.linspace(-1, 1, h), torch.linspace(-1, 1, w)
        return torch.stack([(p.sum(1) * xs).sum(1), (p.sum(2) * ys).sum(1)], 1)


model = nn.Sequential(
    nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(),
    nn.Conv2d(16, 16, 5, padding=2), nn.ReLU(),
    nn.Conv2d(16, 1, 1), SoftArgmax())

train_loader = DataLoader(TensorDataset(*make_blobs(800, 0)), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset(*make_blobs(200, 1)), batch_size=50)
criterion = nn.SmoothL1Loss(beta=0.1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-1)
