"""Implicit neural representation of a chirp with a memory-saving sine activation."""
import math
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(59)
time = torch.linspace(-1, 1, 2000).unsqueeze(1)
wave = torch.sin(14 * time + 9 * time ** 2) * torch.exp(-time ** 2) + 0.3 * torch.sin(25 * time)


class ScaledSine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, omega):
        y = torch.sin(omega * x)
        ctx.save_for_backward(y)
        ctx.omega = omega
        return y

    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * ctx.omega * torch.sqrt((1 - y * y).clamp(min=0)), None


class SineLayer(nn.Module):
    def __init__(self, n_in, n_out, omega, bound):
        super().__init__()
        self.omega, self.lin = omega, nn.Linear(n_in, n_out)
        nn.init.uniform_(self.lin.weight, -bound, bound)

    def forward(self, x):
        return ScaledSine.apply(self.lin(x), self.omega)


H = 64
hidden_bound = math.sqrt(6 / H) / 15
model = nn.Sequential(SineLayer(1, H, 15.0, 1.0), SineLayer(H, H, 15.0, hidden_bound),
                      SineLayer(H, H, 15.0, hidden_bound), nn.Linear(H, 1))
nn.init.uniform_(model[-1].weight, -hidden_bound, hidden_bound)
train_loader = DataLoader(TensorDataset(time, wave), batch_size=500, shuffle=True)
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)


if __name__ == "__main__":
    model.train()
    for epoch in range(5):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
