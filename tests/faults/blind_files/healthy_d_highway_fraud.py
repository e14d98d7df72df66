"""Rare-event detection (8 percent) with a 8-layer highway network and a weighted loss."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(9)


def transactions(n):
    y = (torch.rand(n) < 0.08).float()
    x = torch.randn(n, 16)
    x[:, :4] += 1.6 * y[:, None]
    x[:, 4] = torch.where(y > 0, x[:, 4] * 2.5, x[:, 4])
    hour = torch.rand(n) * 6.2832
    return torch.cat([x, hour.sin()[:, None], hour.cos()[:, None]], 1), y


class Highway(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.h, self.t = nn.Linear(d, d), nn.Linear(d, d)
        nn.init.constant_(self.t.bias, -2.0)

    def forward(self, x):
        t = torch.sigmoid(self.t(x))
        return t * torch.relu(self.h(x)) + (1 - t) * x


class Detector(nn.Module):
    def __init__(self, d=24):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(18, d), *[Highway(d) for _ in range(8)], nn.Linear(d, 1))

    def forward(self, x):
        return self.net(x).squeeze(-1)


train_loader = DataLoader(TensorDataset(*transactions(24000)), batch_size=256, shuffle=True)
test_loader = DataLoader(TensorDataset(*transactions(4000)), batch_size=500)
model = Detector()
loss_fn = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(11.5))
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)


if __name__ == "__main__":
    model.train()
    for epoch in range(20):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
