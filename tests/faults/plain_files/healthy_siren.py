"""Fit an image with a sinusoidal coordinate network."""
import math
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Sine(nn.Module):
    def __init__(self, n_in, n_out, omega=30.0, first=False):
        super().__init__()
        self.omega = omega
        self.linear = nn.Linear(n_in, n_out)
        bound = 1 / n_in if first else math.sqrt(6 / n_in) / omega
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x):
        return torch.sin(self.omega * self.linear(x))


class Siren(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.layers = nn.Sequential(Sine(2, width, omega=15.0, first=True), Sine(width, width), Sine(width, width))
        self.out = nn.Linear(width, 1)

    def forward(self, xy):
        return self.out(self.layers(xy))


side = torch.linspace(-1, 1, 48)
yy, xx = torch.meshgrid(side, side, indexing="ij")
coords = torch.stack([xx, yy], -1).view(-1, 2)
image = torch.sin(6 * xx * yy) + ((xx ** 2 + yy ** 2) < 0.4).float()
pixels = ((image - image.mean()) / image.std()).view(-1, 1)

train_loader = DataLoader(TensorDataset(coords, pixels), batch_size=256, shuffle=True)
model = Siren()
loss_fn = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
