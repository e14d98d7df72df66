"""Small VAE on 12x12 blobs."""
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def blobs(n, size=12):
    cx, cy = 2 + 8 * torch.rand(2, n, 1, 1)
    width = 1.2 + 1.2 * torch.rand(n, 1, 1)
    g = torch.arange(size).float()
    d2 = (g.view(1, 1, -1) - cx) ** 2 + (g.view(1, -1, 1) - cy) ** 2
    return torch.exp(-d2 / (2 * width ** 2)).unsqueeze(1)


train_loader = DataLoader(TensorDataset(blobs(2000)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(blobs(400)), batch_size=200)


class VAE(nn.Module):
    def __init__(self, latent=8):
        super().__init__()
        self.enc = nn.Sequential(nn.Flatten(), nn.Linear(144, 128), nn.ReLU())
        self.fc_mu = nn.Linear(128, latent)
        self.fc_logvar = nn.Linear(128, latent)
        self.dec = nn.Sequential(nn.Linear(latent, 128), nn.ReLU(), nn.Linear(128, 144))

    def encode(self, x):
        h = self.enc(x)
        return self.fc_mu(h), self.fc_logvar(h)

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        eps = torch.randn_like(std)
        return mu + eps * std

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = torch.randn_like(mu)
        return self.dec(z).view(-1, 1, 12, 12), mu, logvar


model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)


def training_step(model, batch):
    (x,) = batch
    recon, mu, logvar = model(x)
    bce = F.binary_cross_entropy_with_logits(recon, x, reduction="sum") / x.size(0)
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / x.size(0)
    return bce + kld
