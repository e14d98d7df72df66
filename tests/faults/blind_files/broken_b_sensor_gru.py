import math
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_signals(n, steps=40, channels=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    kind = torch.randint(0, 4, (n,), generator=g)
    t = torch.arange(steps).float()
    freq = 0.2 + 0.2 * kind.float()
    phase = torch.rand(n, 1, generator=g) * 2 * math.pi
    base = torch.sin(freq[:, None] * t[None] + phase)
    sig = torch.stack([base, base.roll(3, 1), base ** 2 - 0.5], dim=2)
    return sig + 0.2 * torch.randn(n, steps, channels, generator=g), kind


def to_time_major(x):
    # nn.GRU wants (time, batch, features)
    n, steps, feats = x.shape
    return x.reshape(steps, n, feats)


class ActivityNet(nn.Module):
    def __init__(self, feats=3, hidden=48, classes=4):
        super().__init__()
        self.inp = nn.Linear(feats, 24)
        self.gru = nn.GRU(24, hidden)
        self.out = nn.Sequential(nn.Linear(hidden, 32), nn.ReLU(), nn.Linear(32, classes))

    def forward(self, x):
        z = torch.relu(self.inp(x))
        z = to_time_major(z)
        _, h = self.gru(z)
        return self.out(h.squeeze(0))


torch.manual_seed(7)
train_loader = DataLoader(TensorDataset(*make_signals(1280, seed=1)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*make_signals(256, seed=2)), batch_size=64)
model = ActivityNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)


def fit(epochs):
    for e in range(epochs):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        print(e, loss.item())


if __name__ == "__main__":
    fit(10)
