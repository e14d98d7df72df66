"""Kolmogorov-Arnold network with one spline object per hidden unit."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(53)


def make(n):
    x = torch.rand(n, 4) * 2 - 1
    y = torch.sin(4 * x[:, 0] + 2 * x[:, 1]) + torch.cos(3 * x[:, 2] * x[:, 3])
    return TensorDataset(x, ((y - 0.75) / 0.8).unsqueeze(1))


class SplineUnit(nn.Module):
    def __init__(self, n_in, grid=9):
        super().__init__()
        self.register_buffer("knots", torch.linspace(-1, 1, grid))
        self.coef = nn.Parameter(torch.randn(n_in, grid) * 0.1)

    def forward(self, x):
        basis = torch.exp(-((x.unsqueeze(-1) - self.knots) / 0.25) ** 2)
        return (basis * self.coef).sum((1, 2))


class SplineNet(nn.Module):
    def __init__(self, n_in=4, hidden=5):
        super().__init__()
        self.units = [SplineUnit(n_in) for _ in range(hidden)]
        self.outer = SplineUnit(hidden)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        h = torch.stack([torch.tanh(u(x)) for u in self.units], 1)
        return (self.outer(h) + self.bias).unsqueeze(1)


train_loader = DataLoader(make(3000), batch_size=64, shuffle=True)
test_loader = DataLoader(make(400), batch_size=200)
model = SplineNet()
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)


if __name__ == "__main__":
    model.train()
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
