"""Diagonal state-space classifier: which of four cues opened a long noisy sequence?"""
import math
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(54)
T = 64


def make(n):
    y = torch.randint(0, 4, (n,))
    x = 0.3 * torch.randn(n, T, 4)
    x[torch.arange(n), :4, y] += 1.0
    return TensorDataset(x, y)


class DiagSSM(nn.Module):
    def __init__(self, d, states=32):
        super().__init__()
        self.log_decay = nn.Parameter(torch.linspace(math.log(0.8), math.log(3.0), states))
        self.b, self.c = nn.Linear(d, states), nn.Linear(states, d)

    def forward(self, u):
        lam = torch.exp(-self.log_decay.exp())
        drive = self.b(u) * (1 - lam ** 2).sqrt()
        h = torch.zeros_like(drive[:, 0])
        for t in range(u.shape[1]):
            h = lam * h + drive[:, t]
        return self.c(h)


model = nn.Sequential(nn.Linear(4, 16), nn.GELU(), DiagSSM(16), nn.GELU(), nn.Linear(16, 4))
train_loader = DataLoader(make(2000), batch_size=50, shuffle=True)
test_loader = DataLoader(make(400), batch_size=200)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
