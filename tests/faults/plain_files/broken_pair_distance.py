"""Deep metric learning with batch-hard triplets and a hand-written distance matrix."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_images(n, seed, size=16):
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:size, :size]
    images, labels = [], rng.integers(0, 4, n)
    for k in labels:
        cy, cx, r = rng.uniform(5, 11), rng.uniform(5, 11), rng.uniform(3, 4.5)
        dy, dx = np.abs(yy - cy), np.abs(xx - cx)
        if k == 0:
            img = (dy ** 2 + dx ** 2 < r ** 2)
        elif k == 1:
            img = (np.maximum(dy, dx) < r) & (np.maximum(dy, dx) > r - 1.6)
        elif k == 2:
            img = ((dy < 1) | (dx < 1)) & (np.maximum(dy, dx) < r + 1)
        else:
            img = (np.abs(dy - dx) < 1.1) & (np.maximum(dy, dx) < r + 1)
        images.append(img * rng.uniform(0.7, 1.0) + rng.normal(0, 0.05, img.shape))
    x = torch.tensor(np.array(images), dtype=torch.float32).unsqueeze(1).clamp(0, 1)
    return x, torch.tensor(labels)


class EmbedNet(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.fc = nn.Linear(32 * 16, dim)

    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))


def pairwise(e):
    diff = e[:, None, :] - e[None, :, :]
    return torch.sqrt((diff ** 2).sum(-1))


def batch_hard(e, y, margin=0.5):
    dist = pairwise(e)
    same = y[:, None] == y[None, :]
    hardest_pos = (dist * same).max(1).values
    hardest_neg = (dist + 1e3 * same).min(1).values
    spread = dist.mean()
    return torch.relu(hardest_pos - hardest_neg + margin).mean() + 0.01 * spread


def training_step(model, batch):
    x, y = batch
    return batch_hard(model((x - 0.2) / 0.35), y)


train_loader = DataLoader(TensorDataset(*make_images(1000, 0)), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset(*make_images(200, 1)), batch_size=50)
model = EmbedNet()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
