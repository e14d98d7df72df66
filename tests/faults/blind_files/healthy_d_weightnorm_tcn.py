"""Weight-normalised dilated causal convolutions predict the next sample of a modulated tone."""
import math
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(4)


def tones(n, length=65):
    t = torch.arange(length).float()
    f = torch.empty(n, 1).uniform_(0.05, 0.2)
    phase = torch.rand(n, 1) * 2 * math.pi
    am = 1 + 0.3 * torch.sin(0.07 * t + phase)
    return am * torch.sin(2 * math.pi * f * t + phase) + 0.03 * torch.randn(n, length)


class Causal(nn.Module):
    def __init__(self, c, dilation):
        super().__init__()
        self.pad = 2 * dilation
        self.gate = weight_norm(nn.Conv1d(c, 2 * c, 3, dilation=dilation))
        self.mix = weight_norm(nn.Conv1d(c, c, 1))

    def forward(self, x):
        a, b = self.gate(F.pad(x, (self.pad, 0))).chunk(2, 1)
        return x + self.mix(torch.tanh(a) * torch.sigmoid(b))


class TCN(nn.Module):
    def __init__(self, c=24):
        super().__init__()
        self.inp = nn.Conv1d(1, c, 1)
        self.stack = nn.Sequential(*[Causal(c, d) for d in (1, 2, 4, 8)])
        self.out = nn.Conv1d(c, 1, 1)

    def forward(self, x):
        return self.out(self.stack(self.inp(x)))


def make(n):
    s = tones(n).unsqueeze(1)
    return TensorDataset(s[..., :-1], s[..., 1:])


train_loader = DataLoader(make(1200), batch_size=32, shuffle=True)
test_loader = DataLoader(make(200), batch_size=100)
model = TCN()
loss_fn = nn.MSELoss()
optimizer = torch.optim.Adamax(model.parameters(), lr=4e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
