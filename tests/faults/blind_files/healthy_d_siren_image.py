"""SIREN: fit a procedural 48x48 RGB picture from its pixel coordinates."""
import math
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
S = 48
axis = torch.linspace(-1, 1, S)
yy, xx = torch.meshgrid(axis, axis, indexing="ij")
r = (xx ** 2 + yy ** 2).sqrt()
rgb = torch.stack([torch.sin(9 * r), torch.cos(5 * xx + 3 * yy), (xx * yy * 4).tanh()], -1)
rgb = rgb + 0.4 * ((xx - 0.3).abs() + (yy + 0.2).abs() < 0.35).float().unsqueeze(-1)
coords = torch.stack([xx, yy], -1).reshape(-1, 2)
colors = rgb.reshape(-1, 3).clamp(-1, 1)


class Sine(nn.Module):
    def __init__(self, n_in, n_out, omega=20.0, first=False):
        super().__init__()
        self.omega = omega
        self.linear = nn.Linear(n_in, n_out)
        bound = 1 / n_in if first else math.sqrt(6 / n_in) / omega
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x):
        return torch.sin(self.omega * self.linear(x))


class Siren(nn.Module):
    def __init__(self, width=96):
        super().__init__()
        self.body = nn.Sequential(Sine(2, width, first=True), Sine(width, width), Sine(width, width))
        self.out = nn.Linear(width, 3)
        bound = math.sqrt(6 / width) / 20.0
        nn.init.uniform_(self.out.weight, -bound, bound)

    def forward(self, x):
        return self.out(self.body(x))


train_loader = DataLoader(TensorDataset(coords, colors), batch_size=1152, shuffle=True)
model = Siren()
loss_fn = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)


if __name__ == "__main__":
    model.train()
    for epoch in range(5):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
