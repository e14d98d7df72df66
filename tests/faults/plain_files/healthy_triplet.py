"""Metric learning: an embedding of figures with a triplet loss."""
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


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


class Triplets(Dataset):
    def __init__(self, n, seed):
        self.x, self.y = make_images(n, seed)
        self.of = [torch.nonzero(self.y == k).flatten() for k in range(4)]
        self.rng = np.random.default_rng(seed)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        k = int(self.y[i])
        other = (k + self.rng.integers(1, 4)) % 4
        p = self.of[k][self.rng.integers(len(self.of[k]))]
        n = self.of[other][self.rng.integers(len(self.of[other]))]
        return self.x[i], self.x[p], self.x[n]


class Embed(nn.Module):
    def __init__(self, dim=16):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.LeakyReLU(0.1), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(512, dim))

    def forward(self, x):
        return F.normalize(self.net(x), dim=1)


triplet = nn.TripletMarginLoss(margin=0.5)


def training_step(model, batch):
    a, p, n = batch
    return triplet(model(a), model(p), model(n))


model = Embed()
train_loader = DataLoader(Triplets(1000, 0), batch_size=32, shuffle=True)
test_loader = DataLoader(Triplets(200, 1), batch_size=50)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
