"""Fault detection in vibration signals: dilated 1-D CNN, rare fault classes resampled."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, WeightedRandomSampler

torch.manual_seed(9)


class Vibration(Dataset):
    """0 = normal (85 %), 1 = bearing, 2 = unbalance."""

    def __init__(self, n, seed, transform=None):
        g = torch.Generator().manual_seed(seed)
        self.y = torch.multinomial(torch.tensor([0.85, 0.08, 0.07]), n, True, generator=g)
        t = torch.linspace(0, 1, 128)
        f = torch.tensor([8.0, 8.0, 8.0])[self.y]
        ph = 6.28 * torch.rand(n, 1, generator=g)
        x = torch.sin(6.28 * f[:, None] * t + ph) + 0.5 * torch.randn(n, 128, generator=g)
        x += (self.y == 1).float()[:, None] * 1.2 * torch.sin(6.28 * 30 * t + 2 * ph)
        x += (self.y == 2).float()[:, None] * 1.2 * torch.sin(6.28 * 3 * t + 3 * ph)
        self.x = x.unsqueeze(1)
        self.transform = transform

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        x = self.x[i]
        if self.transform:
            x = self.transform(x)
        return x, self.y[i]


def jitter(x):
    return torch.roll(x, int(torch.randint(0, 16, (1,))), -1) + 0.05 * torch.randn_like(x)


def conv(i, o, d):
    return nn.Sequential(nn.Conv1d(i, o, 5, padding=2 * d, dilation=d), nn.BatchNorm1d(o, momentum=0.001), nn.ReLU())


model = nn.Sequential(conv(1, 24, 1), conv(24, 24, 2), conv(24, 32, 4), conv(32, 32, 8),
                      nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(32, 3))
train_ds = Vibration(2000, 0, jitter)
test_ds = Vibration(500, 1)
weights = 1.0 / torch.bincount(train_ds.y)[train_ds.y].float()
train_loader = DataLoader(train_ds, batch_size=32, sampler=WeightedRandomSampler(weights, len(train_ds)))
test_loader = DataLoader(test_ds, batch_size=100)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)
