import torch
from torch import nn
import torch.nn.functional as F
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
LATENT = 6


def spirals(n):
    t = 1 + 4 * torch.rand(n)
    return TensorDataset(torch.stack([t * torch.cos(t), t * torch.sin(t)], 1) / 2.5 + 0.05 * torch.randn(n, 2))


def mlp(i, o, hidden=64):
    return nn.Sequential(nn.Linear(i, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, o))


class GAN(nn.Module):
    def __init__(self):
        super().__init__()
        self.generator, self.discriminator = mlp(LATENT, 2), mlp(2, 1)

    def sample(self, n):
        return self.generator(torch.randn(n, LATENT))

    def score_frozen(self, x):
        frozen = {k: v.detach() for k, v in self.discriminator.named_parameters()}
        return functional_call(self.discriminator, frozen, (x,))


def d_loss(model, real, fake):
    r, f = model.discriminator(real), model.discriminator(fake)
    return F.softplus(-r).mean() + F.softplus(f).mean()


def g_loss(model, fake):
    return F.softplus(-model.score_frozen(fake)).mean()


def training_step(model, batch):
    (real,) = batch
    fake = model.sample(len(real)).detach()
    return d_loss(model, real, fake) + g_loss(model, fake)


train_loader = DataLoader(spirals(6000), batch_size=128, shuffle=True)
model = GAN()
optimizer = torch.optim.Adam([
    {"params": model.generator.parameters(), "lr": 1e-3},
    {"params": model.discriminator.parameters(), "lr": 2e-3}], betas=(0.5, 0.99))
