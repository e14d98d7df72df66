"""Insurance claims: zero-inflated, positive, modelled with a Tweedie deviance (p = 1.5)."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(56)
w = torch.tensor([0.8, -0.6, 0.5, 0.0, 0.0])


def make(n):
    x = torch.randn(n, 5)
    mu = torch.exp(x @ w + 0.4 * x[:, 3] * x[:, 4] - 0.6)
    count = torch.poisson(2 * mu)
    amount = torch.where(count > 0, torch.distributions.Gamma(count.clamp(min=1) * 2, 4.0).sample(), 0.0)
    return TensorDataset(x, amount)


class Premium(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, x):
        return self.net(x).clamp(-6, 6).exp()


def tweedie(mu, y, p=1.5):
    return (-y * mu.pow(1 - p) / (1 - p) + mu.pow(2 - p) / (2 - p)).mean()


train_loader = DataLoader(make(4000), batch_size=64, shuffle=True)
test_loader = DataLoader(make(800), batch_size=200)
model = Premium()
loss_fn = tweedie
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(20):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
