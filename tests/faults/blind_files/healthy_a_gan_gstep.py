"""Conditional generator update against a fixed, pre-fitted discriminator."""
import math
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(19)
CLASSES, Z = 6, 4


def real(n):
    c = torch.randint(0, CLASSES, (n,))
    a = 2 * math.pi * c / CLASSES
    return TensorDataset(torch.stack([a.cos(), a.sin()], 1) * 1.5 + 0.15 * torch.randn(n, 2), c)


class Generator(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(Z + CLASSES, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, z, c):
        return self.net(torch.cat([z, F.one_hot(c, CLASSES).float()], 1))


class Discriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.label = nn.Embedding(CLASSES, 16)
        self.fc1 = nn.Linear(18, 64)
        self.fc2 = nn.Linear(64, 64)
        self.out = nn.Linear(64, 1)

    def forward(self, x, c):
        h = F.leaky_relu(self.fc1(torch.cat([x, self.label(c)], 1)), 0.2)
        return self.out(F.leaky_relu(self.fc2(h), 0.2)).squeeze(1)


def fit_discriminator(d, loader, epochs=3):
    opt = torch.optim.Adam(d.parameters(), lr=2e-3)
    for _ in range(epochs):
        for x, c in loader:
            fake = 1.5 * torch.randn_like(x)
            score = torch.cat([d(x, c), d(fake, c)])
            target = torch.cat([torch.ones(len(x)), torch.zeros(len(x))])
            opt.zero_grad()
            F.binary_cross_entropy_with_logits(score, target).backward()
            opt.step()
    return d.eval().requires_grad_(False)


class CGAN(nn.Module):
    def __init__(self, critic):
        super().__init__()
        self.g = Generator()
        self.d = critic

    def forward(self, z, c):
        return self.d(self.g(z, c), c)


train_loader = DataLoader(real(3000), batch_size=64, shuffle=True)
model = CGAN(fit_discriminator(Discriminator(), train_loader))
optimizer = torch.optim.Adam(model.g.parameters(), lr=5e-3, betas=(0.5, 0.999))


def training_step(model, batch):
    c = batch[1]
    score = model(torch.randn(c.size(0), Z), c)
    return F.binary_cross_entropy_with_logits(score, torch.ones_like(score))
