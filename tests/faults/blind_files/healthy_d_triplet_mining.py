"""Metric learning with batch-hard triplet mining and a soft margin."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(29)
protos = torch.randn(10, 2, 8)


def make(n):
    y = torch.randint(0, 10, (n,))
    t = torch.rand(n, 8) * 6.2832
    amp = torch.randn(n, 1) * 0.3 + 1
    x = torch.cat([amp * (protos[y, 0] + 0.4 * t.cos()), protos[y, 1] + 0.4 * t.sin()], 1)
    return TensorDataset(x + 0.3 * torch.randn(n, 16), y)


def batch_hard(e, y):
    d = torch.cdist(e, e)
    same = y[:, None] == y[None]
    pos = d.masked_fill(~same, 0).amax(1)
    neg = d.masked_fill(same, float("inf")).amin(1)
    return F.softplus(pos - neg).mean()


model = nn.Sequential(nn.Linear(16, 64), nn.LeakyReLU(0.1), nn.Linear(64, 64), nn.LeakyReLU(0.1), nn.Linear(64, 8))
loss_fn = batch_hard
train_loader = DataLoader(make(3000), batch_size=60, shuffle=True)
test_loader = DataLoader(make(300), batch_size=60)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(20):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
