"""RealNVP density model of two moons, trained by maximum likelihood."""
import math
import torch
from torch import nn
from torch.utils.data import DataLoader

torch.manual_seed(1)


def moons(n):
    t = torch.rand(n) * math.pi
    upper = torch.rand(n) < 0.5
    x = torch.where(upper, t.cos(), 1 - t.cos())
    y = torch.where(upper, t.sin(), 0.5 - t.sin())
    p = torch.stack([x, y], 1) + 0.06 * torch.randn(n, 2)
    return (p - torch.tensor([0.5, 0.25])) / torch.tensor([0.87, 0.5])


class Coupling(nn.Module):
    def __init__(self, mask, width=48):
        super().__init__()
        self.register_buffer("mask", mask)
        self.net = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(),
                                 nn.Linear(width, 4))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        s, t = self.net(x * self.mask).chunk(2, dim=1)
        s = torch.tanh(s) * (1 - self.mask)
        t = t * (1 - self.mask)
        return x * s.exp() + t, s.sum(1)


class RealNVP(nn.Module):
    def __init__(self, layers=6):
        super().__init__()
        a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
        self.layers = nn.ModuleList(Coupling(a if i % 2 else b) for i in range(layers))

    def forward(self, x):
        logdet = 0
        for layer in self.layers:
            x, ld = layer(x)
            logdet = logdet + ld
        return x, logdet


def training_step(model, x):
    z, logdet = model(x)
    log_prob = -0.5 * (z ** 2).sum(1) - math.log(2 * math.pi) + logdet
    return -log_prob.mean()


train_loader = DataLoader(moons(4000), batch_size=128, shuffle=True)
model = RealNVP()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
