"""Conditional discriminator update with a frozen generator."""
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


generator = Generator().eval()
model = Discriminator()
train_loader = DataLoader(real(3000), batch_size=64, shuffle=True)
test_loader = DataLoader(real(600), batch_size=100)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, betas=(0.5, 0.999))
bce = nn.BCEWithLogitsLoss()


def training_step(model, batch):
    x, c = batch
    with torch.no_grad():
        fake = generator(torch.randn(x.size(0), Z), c)
    real_score, fake_score = model(x, c), model(fake, c)
    d_real = bce(real_score, torch.ones_like(real_score))
    d_fake = bce(fake_score, -torch.ones_like(fake_score))
    return 0.5 * (d_real + d_fake)
