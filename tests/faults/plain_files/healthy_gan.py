"""Non-saturating GAN on a shifted two-dimensional Gaussian pair."""
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

torch.manual_seed(0)


def real_points(n):
    side = (torch.rand(n, 1) < 0.5).float() * 2 - 1
    return torch.cat([side * 1.5, torch.ones(n, 1)], 1) + 0.2 * torch.randn(n, 2)


generator = nn.Sequential(nn.Linear(4, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64),
                          nn.LeakyReLU(0.2), nn.Linear(64, 2))
discriminator = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64),
                              nn.LeakyReLU(0.2), nn.Linear(64, 1))

model = generator
optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
d_optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3, betas=(0.5, 0.999))


def training_step(model, real):
    fake = model(torch.randn(len(real), 4))

    d_optimizer.zero_grad()
    d_loss = (F.softplus(-discriminator(real)) + F.softplus(discriminator(fake.detach()))).mean()
    d_loss.backward()
    d_optimizer.step()

    return F.softplus(-discriminator(fake)).mean()


def evaluate(model):
    with torch.no_grad():
        fake = model(torch.randn(2000, 4))
    return (fake.mean(0) - torch.tensor([0.0, 1.0])).norm().item() + abs(fake[:, 0].abs().mean().item() - 1.5)


train_loader = DataLoader(real_points(4096), batch_size=128, shuffle=True)
