"""Contrastive pre-training on unlabelled figures (NT-Xent)."""
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader


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


def augment(x):
    dy, dx = torch.randint(-2, 3, (2,)).tolist()
    x = torch.roll(x, (dy, dx), dims=(2, 3))
    if torch.rand(()) < 0.5:
        x = x.flip(3)
    return (x + 0.1 * torch.randn_like(x)) * torch.empty(len(x), 1, 1, 1).uniform_(0.8, 1.2)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 24, 3, stride=2, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
            nn.Flatten())
        self.proj = nn.Sequential(nn.Linear(48 * 16, 64), nn.ReLU(), nn.Linear(64, 32))

    def forward(self, x):
        return F.normalize(self.proj(self.backbone(x)), dim=1)


def nt_xent(z1, z2, tau=0.2):
    z = torch.cat([z1, z2])
    sim = z @ z.T / tau
    sim = sim.masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)
    n = len(z1)
    positive = torch.cat([torch.arange(n) + n, torch.arange(n)])
    return F.cross_entropy(sim, positive)


def training_step(model, batch):
    return nt_xent(model(augment(batch)), model(augment(batch)))


images, _ = make_images(1024, 0)
train_loader = DataLoader(images, batch_size=64, shuffle=True, drop_last=True)
model = Encoder()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
