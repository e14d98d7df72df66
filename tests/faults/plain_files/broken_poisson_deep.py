"""Bike rentals per hour: count regression with Poisson loss."""
import math

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(13)
n = 3000
hour = torch.randint(0, 24, (n,)).float()
temp = 12 + 8 * torch.randn(n)
rain = torch.where(torch.rand(n) < 0.6, torch.zeros(n), torch.distributions.Exponential(0.5).sample((n,)))
weekend = (torch.rand(n) < 2 / 7).float()
rate = torch.exp(1.2 + 0.9 * torch.sin(2 * math.pi * (hour - 8) / 24) + 0.03 * (temp - 12) - 0.4 * rain + 0.4 * weekend)
count = torch.poisson(rate)

x = torch.stack([
    torch.sin(2 * math.pi * hour / 24),
    torch.cos(2 * math.pi * hour / 24),
    (temp - temp.mean()) / temp.std(),
    torch.log1p(rain),
    weekend,
], dim=1)

train_loader = DataLoader(TensorDataset(x[:2400], count[:2400, None]), batch_size=60, shuffle=True)
test_loader = DataLoader(TensorDataset(x[2400:], count[2400:, None]), batch_size=200)


class Rentals(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(5, 32)
        self.hidden = nn.ModuleList(nn.Linear(32, 32) for _ in range(8))
        self.out = nn.Linear(32, 1)

    def forward(self, x):
        x = torch.sigmoid(self.fc1(x))
        for fc in self.hidden:
            x = torch.sigmoid(fc(x))
        return self.out(x)


model = Rentals()
loss_fn = nn.PoissonNLLLoss(log_input=True)
optimizer = torch.optim.Adamax(model.parameters(), lr=1e-2)
