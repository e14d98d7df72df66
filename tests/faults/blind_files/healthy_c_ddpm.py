import math
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
STEPS = 100
BETAS = torch.linspace(1e-4, 0.08, STEPS)
ALPHA_BAR = torch.cumprod(1 - BETAS, 0)


def waves(n, length=32):
    t = torch.linspace(0, 6.283, length)
    x = torch.sin((1 + torch.randint(0, 3, (n, 1))) * t + 6.283 * torch.rand(n, 1))
    return TensorDataset(x[:, None] * 1.2)


def time_embedding(t, dim=32):
    freqs = torch.exp(-math.log(1000.0) * torch.arange(dim // 2) / (dim // 2))
    a = t[:, None].float() * freqs
    return torch.cat([a.sin(), a.cos()], 1)


class ResBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm, self.time = nn.GroupNorm(4, c), nn.Linear(32, c)
        self.conv1, self.conv2 = nn.Conv1d(c, c, 5, padding=2, padding_mode="circular"), nn.Conv1d(c, c, 5, padding=2, padding_mode="circular")
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x, e):
        h = self.conv1(nn.functional.silu(self.norm(x))) + self.time(e)[:, :, None]
        return x + self.conv2(nn.functional.silu(h))


class Denoiser(nn.Module):
    def __init__(self, c=32):
        super().__init__()
        self.inp, self.out = nn.Conv1d(1, c, 5, padding=2), nn.Conv1d(c, 1, 5, padding=2)
        self.blocks = nn.ModuleList(ResBlock(c) for _ in range(3))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x, t):
        e, h = time_embedding(t), self.inp(x)
        for b in self.blocks:
            h = b(h, e)
        return self.out(h)


def training_step(model, batch):
    (x0,) = batch
    t = torch.randint(0, STEPS, (len(x0),))
    noise = torch.randn_like(x0)
    a = ALPHA_BAR[t][:, None, None]
    return nn.functional.mse_loss(model(a.sqrt() * x0 + (1 - a).sqrt() * noise, t), noise)


train_loader = DataLoader(waves(4000), batch_size=64, shuffle=True)
model = Denoiser()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
