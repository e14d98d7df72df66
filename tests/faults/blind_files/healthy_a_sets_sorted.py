import math
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(16)


def point_sets(n, size=32):
    """Ring, disc or two lumps, randomly shifted."""
    y = torch.arange(n) * 3 // n
    ang = torch.rand(n, size) * 2 * math.pi
    ring = torch.stack([ang.cos(), ang.sin()], -1)
    disc = ring * torch.rand(n, size, 1).sqrt()
    lumps = (torch.randint(0, 2, (n, size, 1)) * 2 - 1) * torch.tensor([0.7, 0.0]) + 0.25 * torch.randn(n, size, 2)
    pts = torch.stack([ring, disc, lumps], 1)[torch.arange(n), y]
    return TensorDataset(pts + 0.1 * torch.randn(n, size, 2) + 0.2 * torch.randn(n, 1, 2), y)


class BalancedBatches:
    def __init__(self, labels, per_class):
        self.pools = [(labels == c).nonzero().flatten() for c in labels.unique()]
        self.per_class = per_class

    def __len__(self):
        return min(len(p) for p in self.pools) // self.per_class

    def __iter__(self):
        shuffled = [p[torch.randperm(len(p))] for p in self.pools]
        for b in range(len(self)):
            part = slice(b * self.per_class, (b + 1) * self.per_class)
            yield torch.cat([s[part] for s in shuffled]).tolist()


class AttentionPool(nn.Module):
    def __init__(self, d, seeds=4):
        super().__init__()
        self.q = nn.Parameter(0.5 * torch.randn(seeds, d))
        self.k = nn.Linear(d, d)
        self.v = nn.Linear(d, d)

    def forward(self, h):
        att = (self.k(h) @ self.q.t() / h.size(-1) ** 0.5).softmax(dim=1)
        return (att.transpose(1, 2) @ self.v(h)).flatten(1)


class SetNet(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(2, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU())
        self.pool = AttentionPool(d)
        self.rho = nn.Sequential(nn.Linear(4 * d, d), nn.ReLU(), nn.Linear(d, 3))

    def forward(self, pts):
        if self.training:
            pts = pts[:, torch.randperm(pts.size(1))[:24]]
        return self.rho(self.pool(self.phi(pts)))


model = SetNet()
train_set = point_sets(1500)
train_loader = DataLoader(train_set, batch_sampler=BalancedBatches(train_set.tensors[1], per_class=16))
test_loader = DataLoader(point_sets(300), batch_size=100)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
