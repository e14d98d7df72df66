"""Tiny DDPM on 2-D points."""
import math
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(6)
T = 100
betas = torch.linspace(1e-4, 0.08, T)
alpha_bar = torch.cumprod(1 - betas, 0)


def spiral(n):
    u = torch.rand(n).sqrt() * 3 * math.pi
    pts = torch.stack([u * u.cos(), u * u.sin()], 1) / (1.5 * math.pi)
    return TensorDataset(pts + 0.02 * torch.randn(n, 2))


class TimeEmbedding(nn.Module):
    def __init__(self, dim=32):
        super().__init__()
        self.register_buffer("freqs", torch.exp(-math.log(1000.0) * torch.arange(dim // 2) / (dim // 2)))

    def forward(self, t):
        ang = t.float()[:, None] * self.freqs
        return torch.cat([ang.sin(), ang.cos()], -1).to(self.freqs.dtype)


class Denoiser(nn.Module):
    def __init__(self, h=128):
        super().__init__()
        self.temb = nn.Sequential(TimeEmbedding(), nn.Linear(32, h), nn.SiLU())
        self.inp = nn.Linear(2, h)
        self.mid = nn.ModuleList(nn.Linear(h, h) for _ in range(3))
        self.out = nn.Linear(h, 2)

    def forward(self, x, t):
        emb = self.temb(t)
        h = self.inp(x)
        for lin in self.mid:
            h = h + F.silu(lin(h + emb))
        return self.out(h)


def training_step(model, batch):
    x0 = batch[0]
    t = torch.randint(0, T, (x0.size(0),))
    noise = torch.randn_like(x0)
    ab = alpha_bar[t].unsqueeze(1)
    xt = ab.sqrt() * x0 + (1 - ab).sqrt() * noise
    return F.mse_loss(model(xt.bfloat16(), t).float(), noise)


model = Denoiser().bfloat16()
train_loader = DataLoader(spiral(4096), batch_size=128, shuffle=True)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-5)
