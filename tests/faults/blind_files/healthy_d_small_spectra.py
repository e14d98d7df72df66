"""Ninety spectra, 100 channels: strong decay, dropout and mixup keep a small net honest."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(46)
wave = torch.linspace(0, 1, 100)


def spectra(n):
    c = torch.rand(n, 3)
    bands = torch.stack([torch.exp(-((wave - m) / w) ** 2) for m, w in ((0.3, 0.08), (0.5, 0.15), (0.75, 0.05))])
    x = c @ bands + 0.3 * torch.rand(n, 1) * wave + 0.05 * torch.randn(n, 100)
    return x, ((c[:, :1] - 0.5 * c[:, 1:2]) - 0.25) / 0.32


def training_step(model, batch):
    x, y = batch
    if model.training:
        lam, perm = torch.distributions.Beta(0.4, 0.4).sample((len(x), 1)), torch.randperm(len(x))
        x, y = lam * x + (1 - lam) * x[perm], lam * y + (1 - lam) * y[perm]
    return nn.functional.mse_loss(model(x), y)


model = nn.Sequential(nn.BatchNorm1d(100, affine=False), nn.Linear(100, 24), nn.Hardswish(), nn.Dropout(0.15), nn.Linear(24, 1))
train_loader = DataLoader(TensorDataset(*spectra(90)), batch_size=30, shuffle=True)
test_loader = DataLoader(TensorDataset(*spectra(200)), batch_size=100)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)


if __name__ == "__main__":
    model.train()
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
