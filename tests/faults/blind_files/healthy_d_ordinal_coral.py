"""CORAL ordinal regression: one shared score, K-1 ordered thresholds, BCE on the cumulative events."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(24)
K = 6
w = torch.randn(10)


def make(n):
    x = torch.randn(n, 10)
    s = x @ w / w.norm() + 0.6 * (x[:, 0] * x[:, 1]) + 0.2 * torch.randn(n)
    return TensorDataset(x, torch.bucketize(s, torch.tensor([-1.3, -0.5, 0.0, 0.5, 1.3])))


class Coral(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 48), nn.Softplus(), nn.Linear(48, 24), nn.Softplus(), nn.Linear(24, 1, bias=False))
        self.cuts = nn.Parameter(torch.linspace(2, -2, K - 1))

    def forward(self, x):
        return self.body(x) + self.cuts


def criterion(logits, y):
    levels = (y.unsqueeze(1) > torch.arange(K - 1)).float()
    return nn.functional.binary_cross_entropy_with_logits(logits, levels)


train_loader = DataLoader(make(2500), batch_size=50, shuffle=True)
test_loader = DataLoader(make(500), batch_size=250)
model = Coral()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.95)


if __name__ == "__main__":
    model.train()
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
