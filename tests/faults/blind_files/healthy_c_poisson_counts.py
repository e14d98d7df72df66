import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class BikeCounts(Dataset):
    """Hourly counts, stored and read in the order of a shuffled export (no second shuffle)."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        hour, temp = torch.randint(0, 24, (n,), generator=g), torch.randn(n, generator=g)
        work = (torch.rand(n, generator=g) < 0.7).float()
        rate = torch.exp(0.8 + 1.2 * torch.sin(hour / 24 * 6.283 - 1.5) + 0.5 * temp + 0.4 * work)
        self.hour, self.x, self.y = hour, torch.stack([temp, work], 1), torch.poisson(rate, generator=g)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return {"hour": self.hour[i], "x": self.x[i], "count": self.y[i]}


class CountModel(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.hour = nn.Embedding(24, 8)
        self.net = nn.Sequential(nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, 1), nn.Softplus())

    def forward(self, hour, x):
        return self.net(torch.cat([self.hour(hour), x], 1)).squeeze(1)


def training_step(model, batch):
    rate = model(batch["hour"], batch["x"])
    return nn.functional.poisson_nll_loss(rate, batch["count"], log_input=False)


torch.manual_seed(0)
train_loader = DataLoader(BikeCounts(6000, 0), batch_size=64, shuffle=False)
test_loader = DataLoader(BikeCounts(800, 1), batch_size=200)
model = CountModel()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
