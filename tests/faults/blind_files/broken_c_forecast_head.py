import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class SlidingWindows(Dataset):
    def __init__(self, series, lookback=48, horizon=6):
        self.s, self.lookback, self.horizon = series, lookback, horizon

    def __len__(self):
        return len(self.s) - self.lookback - self.horizon + 1

    def __getitem__(self, i):
        j = i + self.lookback
        return self.s[i:j], self.s[j:j + self.horizon]


def energy_load(n, seed):
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(n).float()
    s = torch.sin(2 * 3.14159 * t / 24) + 0.5 * torch.sin(2 * 3.14159 * t / 7 + 1) + 0.1 * torch.randn(n, generator=g)
    return (s - s.mean()) / s.std()


class DenseBlock(nn.Module):
    def __init__(self, i, o, act=nn.ReLU, p=0.0):
        super().__init__()
        self.fc, self.act, self.drop = nn.Linear(i, o), act(), nn.Dropout(p)

    def forward(self, x):
        return self.drop(self.act(self.fc(x)))


class Forecaster(nn.Module):
    def __init__(self, sizes=(48, 128, 64, 6)):
        super().__init__()
        self.blocks = nn.ModuleList(DenseBlock(i, o) for i, o in zip(sizes[:-1], sizes[1:]))

    def forward(self, x):
        for blk in self.blocks:
            x = blk(x)
        return x


torch.manual_seed(0)
series = energy_load(3000, 0)
train_loader = DataLoader(SlidingWindows(series[:2400]), batch_size=64, shuffle=True)
test_loader = DataLoader(SlidingWindows(series[2400:]), batch_size=128)
model = Forecaster()
loss_fn = nn.SmoothL1Loss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
