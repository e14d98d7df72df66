import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

torch.manual_seed(110)


def machines(n, rate):
    y = (torch.rand(n) < rate).float()
    x = torch.randn(n, 6)
    x[:, 0] = x[:, 0] + 1.5 * y
    x[:, 1] = x[:, 1] - 1.5 * y
    x[:, 2] = x[:, 2] * (1 + y)
    return x, y


class FocalLoss(nn.Module):
    def __init__(self, gamma=2.0):
        super().__init__()
        self.gamma = gamma

    def forward(self, logit, y):
        bce = F.binary_cross_entropy_with_logits(logit, y, reduction="none")
        p_right = torch.exp(-bce)
        return ((1 - p_right) ** self.gamma * bce).mean() * 4


class Watcher(nn.Module):
    def __init__(self):
        super().__init__()
        self.f1 = nn.Linear(6, 32)
        self.f2 = nn.Linear(32, 16)
        self.f3 = nn.Linear(16, 1)

    def forward(self, x):
        x = F.silu(self.f1(x))
        x = F.silu(self.f2(x))
        x = self.f3(x)
        x = x.squeeze(-1)
        return x


x, y = machines(3000, 0.08)
w = torch.where(y == 1, 1.0 / y.sum(), 1.0 / (len(y) - y.sum()))
train_loader = DataLoader(TensorDataset(x, y), batch_size=64, sampler=WeightedRandomSampler(w, 3000))
test_loader = DataLoader(TensorDataset(*machines(600, 0.5)), batch_size=100)
model = Watcher()
criterion = FocalLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

if __name__ == "__main__":
    for epoch in range(8):
        for a, b in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(a), b)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
