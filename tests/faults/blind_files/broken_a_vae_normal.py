import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(5)


def blobs(n, s=10):
    g = torch.linspace(-1, 1, s)
    yy, xx = torch.meshgrid(g, g, indexing="ij")
    cx, cy = (torch.rand(2, n, 1, 1) - 0.5) * 1.4
    r = 0.15 + 0.25 * torch.rand(n, 1, 1)
    img = torch.exp(-((xx - cx) ** 2 + (yy - cy) ** 2) / (2 * r**2))
    return TensorDataset(img.flatten(1))


class VAE(nn.Module):
    def __init__(self, d=100, h=96, z=6):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU())
        self.mu = nn.Linear(h, z)
        self.logvar = nn.Linear(h, z)
        self.dec = nn.Sequential(nn.Linear(z, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, d))

    def reparameterize(self, mu, logvar):
        std = torch.exp(0.5 * logvar)
        return torch.normal(mu, std)

    def forward(self, x):
        h = self.enc(x)
        mu, logvar = self.mu(h), self.logvar(h)
        return self.dec(self.reparameterize(mu, logvar)), mu, logvar


def training_step(model, batch):
    (x,) = batch
    recon, mu, logvar = model(x)
    bce = F.binary_cross_entropy_with_logits(recon, x, reduction="sum") / x.size(0)
    kld = -0.5 * (1 + logvar - mu.pow(2) - logvar.exp()).sum(1).mean()
    return bce + 0.5 * kld


model = VAE()
train_loader = DataLoader(blobs(2000), batch_size=64, shuffle=True)
test_loader = DataLoader(blobs(400), batch_size=64)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

if __name__ == "__main__":
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
