"""One-step-ahead forecasting of hourly load with a dilated temporal conv net."""
import math
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(3)


def load_curve(n):
    t = torch.arange(n, dtype=torch.float32)
    daily = torch.sin(2 * math.pi * t / 24) + 0.4 * torch.sin(2 * math.pi * t / 12 + 1)
    noise = torch.zeros(n)
    e = 0.35 * torch.randn(n)
    for i in range(2, n):
        noise[i] = 1.2 * noise[i - 1] - 0.5 * noise[i - 2] + e[i]
    s = daily + noise
    return (s - s.mean()) / s.std()


def windows(series, length=48, stride=3):
    w = series.unfold(0, length + 1, stride)
    return TensorDataset(w[:, None, :-1].contiguous(), w[:, None, 1:].contiguous())


class Snake(torch.autograd.Function):
    """x + sin(x)^2, memory-light backward"""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x + torch.sin(x) ** 2

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * (1 + torch.cos(2 * x))


class Block(nn.Module):
    def __init__(self, ch, k, dilation):
        super().__init__()
        self.pad = (k - 1) * dilation
        self.conv = nn.Conv1d(ch, ch, k, dilation=dilation)
        self.mix = nn.Conv1d(ch, ch, 1)

    def forward(self, x):
        h = Snake.apply(self.conv(F.pad(x, (self.pad, 0))))
        return x + self.mix(h)


class TCN(nn.Module):
    def __init__(self, ch=24, k=3, dilations=(1, 2, 4, 8)):
        super().__init__()
        self.inp = nn.Conv1d(1, ch, 1)
        self.blocks = nn.Sequential(*[Block(ch, k, d) for d in dilations])
        self.out = nn.Conv1d(ch, 1, 1)

    def forward(self, x):
        return self.out(self.blocks(self.inp(x)))


series = load_curve(3600)
model = TCN()
train_loader = DataLoader(windows(series[:3000]), batch_size=32, shuffle=True)
test_loader = DataLoader(windows(series[3000:]), batch_size=32)
loss_fn = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

if __name__ == "__main__":
    for epoch in range(8):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
