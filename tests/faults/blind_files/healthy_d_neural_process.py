"""Conditional neural process on random periodic functions; Gaussian likelihood (goes below zero)."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(19)
N, P = 3000, 30
x = torch.rand(N, P, 1) * 4 - 2
a, phi = torch.rand(N, 1, 1) + 0.5, torch.rand(N, 1, 1) * 6.2832
y = a * torch.sin(1.5 * x + phi)


def mlp(*d):
    mods = []
    for i, o in zip(d, d[1:]):
        mods += [nn.Linear(i, o), nn.ReLU()]
    return nn.Sequential(*mods[:-1])


class CNP(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.enc, self.dec = mlp(2, d, d, d), mlp(d + 1, d, d, 2)

    def forward(self, cx, cy, tx):
        r = self.enc(torch.cat([cx, cy], -1)).mean(1, keepdim=True)
        mu, raw = self.dec(torch.cat([r.expand(-1, tx.shape[1], -1), tx], -1)).chunk(2, -1)
        return torch.distributions.Normal(mu, 0.05 + 0.95 * nn.functional.softplus(raw))


def training_step(model, batch):
    x, y = batch
    n = 10
    dist = model(x[:, :n], y[:, :n], x[:, n:])
    return -dist.log_prob(y[:, n:]).mean()


train_loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
model = CNP()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(20):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
