"""Residual flow with shared weights (forward-Euler neural ODE) on concentric rings."""
import math
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(17)


def rings(n):
    y = torch.randint(0, 2, (n,))
    r = torch.where(y == 0, 0.5, 1.3) + 0.15 * torch.randn(n)
    a = torch.rand(n) * 2 * math.pi
    return TensorDataset(torch.stack([r * a.cos(), r * a.sin()], 1), y)


class ODEFunc(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.fc1 = nn.Linear(d, h)
        self.fc2 = nn.Linear(h, d)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))


class NeuralODE(nn.Module):
    def __init__(self, d=16, h=48, steps=60):
        super().__init__()
        self.lift = nn.Linear(2, d)
        self.func = ODEFunc(d, h)
        self.steps = steps
        self.head = nn.Linear(d, 2)

    def forward(self, x):
        z = self.lift(x)
        for _ in range(self.steps):
            z = z + self.func(z)
        return self.head(z)


model = NeuralODE()
train_loader = DataLoader(rings(2000), batch_size=64, shuffle=True)
test_loader = DataLoader(rings(400), batch_size=100)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

if __name__ == "__main__":
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
    print(loss.item())
