import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def glyphs(n, size=14):
    yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    c, r = 4 + 6 * torch.rand(n, 2, 1, 1), 2 + 2 * torch.rand(n, 1, 1)
    d = ((xx - c[:, 0]) ** 2 + (yy - c[:, 1]) ** 2).sqrt()
    return TensorDataset(torch.sigmoid(4 * (r - d)).flatten(1))


class VAE(nn.Module):
    def __init__(self, n=196, hidden=128, z=6):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(n, hidden), nn.ReLU())
        self.mu, self.logvar = nn.Linear(hidden, z), nn.Linear(hidden, z)
        self.dec = nn.Sequential(nn.Linear(z, hidden), nn.ReLU(), nn.Linear(hidden, n), nn.Sigmoid())

    def reparameterize(self, mu, logvar):
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)

    def forward(self, x):
        h = self.enc(x)
        mu, logvar = self.mu(h), self.logvar(h)
        return self.dec(self.reparameterize(mu, logvar)), mu, logvar


def training_step(model, batch):
    (x,) = batch
    recon, mu, logvar = model(x)
    bce = F.binary_cross_entropy(recon, x, reduction="sum")
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return (bce + kld) / len(x)


train_loader = DataLoader(glyphs(4000), batch_size=128, shuffle=True)
test_loader = DataLoader(glyphs(500), batch_size=125)
model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
