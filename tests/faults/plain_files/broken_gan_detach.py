"""GAN on a ring of eight Gaussians."""
import math
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

torch.manual_seed(0)


class Generator(nn.Module):
    def __init__(self, noise=4, width=64):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(noise, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                                 nn.Linear(width, 2))

    def forward(self, z):
        return self.net(z)


class Discriminator(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, width), nn.LeakyReLU(0.2), nn.Linear(width, width),
                                 nn.LeakyReLU(0.2), nn.Linear(width, 1))

    def forward(self, x):
        return self.net(x).squeeze(1)


class GAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.G = Generator()
        self.D = Discriminator()


model = GAN()
optimizer = torch.optim.Adam([
    {"params": model.G.parameters(), "lr": 1e-3},
    {"params": model.D.parameters(), "lr": 1e-3}], betas=(0.5, 0.99))


def training_step(model, real):
    fake = model.G(torch.randn(len(real), 4))
    d_loss = (F.softplus(-model.D(real)) + F.softplus(model.D(fake.detach()))).mean()
    for p in model.D.parameters():
        p.requires_grad_(False)
    g_loss = F.softplus(-model.D(fake.detach())).mean()
    for p in model.D.parameters():
        p.requires_grad_(True)
    return d_loss + g_loss


def evaluate(model):
    with torch.no_grad():
        return (model.G(torch.randn(1000, 4)).norm(dim=1) - 2).abs().mean().item()


k = torch.randint(0, 8, (4096,)) * (2 * math.pi / 8)
points = 2 * torch.stack([k.cos(), k.sin()], 1) + 0.1 * torch.randn(4096, 2)
train_loader = DataLoader(points, batch_size=128, shuffle=True)
