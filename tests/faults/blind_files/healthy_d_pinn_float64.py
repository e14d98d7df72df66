"""Physics-informed net in double precision: u'' + u' = f on [0, 1] with zero ends."""
import math
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(37)


class Trial(nn.Module):
    """The boundary values are built in: u(0) = u(1) = 0."""

    def __init__(self, d=32):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, d), nn.Tanh(), nn.Linear(d, d), nn.Tanh(), nn.Linear(d, 1))
        for m in self.net[::2]:
            nn.init.xavier_normal_(m.weight)
            nn.init.zeros_(m.bias)

    def forward(self, x):
        return x * (1 - x) * self.net(x)


model = Trial().double()


def source(x):
    return -4 * math.pi ** 2 * torch.sin(2 * math.pi * x) + 2 * math.pi * torch.cos(2 * math.pi * x)


def training_step(model, batch):
    x = batch[0].clone().requires_grad_(True)
    u = model(x)
    du, = torch.autograd.grad(u.sum(), x, create_graph=True)
    d2u, = torch.autograd.grad(du.sum(), x, create_graph=True)
    residual = (d2u + du - source(x)) / (4 * math.pi ** 2)
    return residual.square().mean()


points = torch.rand(2000, 1, dtype=torch.float64)
train_loader = DataLoader(TensorDataset(points), batch_size=100, shuffle=True)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)


if __name__ == "__main__":
    model.train()
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
