import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
MU, SIGMA = 312000.0, 94000.0


def flats(n):
    """Features are scaled; prices stay in dollars with noise that grows with the size."""
    x = torch.randn(n, 8)
    w = torch.randn(8, generator=torch.Generator().manual_seed(15))
    mean = (x @ w + 0.5 * x[:, 0] * x[:, 1]) / 3
    noise = 0.03 * torch.exp(0.5 * x[:, 2].clamp(-2, 2))
    return TensorDataset(x, MU + SIGMA * (mean + noise * torch.randn(n)))


class PriceDensity(nn.Module):
    """Predicts mean and standard deviation in dollars."""

    def __init__(self, hidden=96):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 2))
        self.register_buffer("mu", torch.tensor(MU))
        self.register_buffer("sigma", torch.tensor(SIGMA))

    def forward(self, x):
        m, s = self.net(x).unbind(1)
        return self.mu + self.sigma * m, self.sigma * (nn.functional.softplus(s) + 1e-3)


def loss_fn(out, price):
    mean, std = out
    z = (price - mean) / std
    return (0.5 * z ** 2 + torch.log(std / SIGMA)).mean()


train_loader = DataLoader(flats(4000), batch_size=64, shuffle=True)
test_loader = DataLoader(flats(800), batch_size=200)
model = PriceDensity()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
