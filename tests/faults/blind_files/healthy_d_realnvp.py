"""RealNVP with zero-initialised couplings on correlated, curved 6-d data; maximum likelihood."""
import math
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(36)


def make(n):
    z = torch.randn(n, 3)
    curve = torch.stack([z[:, 0] ** 2 - 1, torch.sin(2 * z[:, 1]), z[:, 2] * z[:, 0]], 1)
    return TensorDataset(torch.cat([z, curve + 0.15 * torch.randn(n, 3)], 1))


class Coupling(nn.Module):
    def __init__(self, d, flip, hidden=64):
        super().__init__()
        self.flip = flip
        self.net = nn.Sequential(nn.Linear(d // 2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, d))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        a, b = x.chunk(2, 1)
        if self.flip:
            a, b = b, a
        s, t = self.net(a).chunk(2, 1)
        s = 3 * torch.tanh(s / 3)
        b = b * s.exp() + t
        return torch.cat([b, a] if self.flip else [a, b], 1), s.sum(1)


class Flow(nn.Module):
    def __init__(self, d=6, layers=6):
        super().__init__()
        self.layers = nn.ModuleList([Coupling(d, i % 2 == 1) for i in range(layers)])

    def forward(self, x):
        logdet = x.new_zeros(len(x))
        for layer in self.layers:
            x, ld = layer(x)
            logdet = logdet + ld
        return -0.5 * x.square().sum(1) - 0.5 * x.shape[1] * math.log(2 * math.pi) + logdet


def training_step(model, batch):
    return -model(batch[0]).mean()


train_loader = DataLoader(make(6000), batch_size=128, shuffle=True)
test_loader = DataLoader(make(600), batch_size=300)
model = Flow()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
