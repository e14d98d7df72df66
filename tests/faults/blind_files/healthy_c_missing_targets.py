import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Assays(Dataset):
    """Multi-task toxicity table in which most of the cells were never measured (NaN)."""

    def __init__(self, n, seed, n_tasks=6):
        g = torch.Generator().manual_seed(seed)
        w = torch.randn(32, n_tasks, generator=torch.Generator().manual_seed(31))
        self.x = (torch.rand(n, 32, generator=g) < 0.3).float()
        y = (self.x - 0.3) @ w + 0.1 * torch.randn(n, n_tasks, generator=g)
        self.y = y.masked_fill(torch.rand(n, n_tasks, generator=g) < 0.6, float("nan"))

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class MultiTaskMLP(nn.Module):
    def __init__(self, n_in=32, hidden=96, n_tasks=6):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(n_in, hidden), nn.SELU(), nn.Linear(hidden, hidden), nn.SELU())
        self.heads = nn.ModuleList(nn.Linear(hidden, 1) for _ in range(n_tasks))

    def forward(self, x):
        h = self.net(x)
        return torch.cat([head(h) for head in self.heads], 1)


def loss_fn(pred, target):
    known = ~torch.isnan(target)
    diff = torch.where(known, pred - torch.nan_to_num(target), torch.zeros_like(pred))
    return (diff ** 2).sum() / known.sum().clamp(min=1)


torch.manual_seed(0)
train_loader = DataLoader(Assays(2000, 0), batch_size=50, shuffle=True)
test_loader = DataLoader(Assays(400, 1), batch_size=100)
model = MultiTaskMLP()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
