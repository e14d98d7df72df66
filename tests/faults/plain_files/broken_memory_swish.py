"""Diffusion on a two-dimensional spiral, with a memory-saving Swish."""
import math
import torch
from torch import nn
from torch.utils.data import DataLoader

torch.manual_seed(0)
STEPS = 40
betas = torch.linspace(1e-3, 0.15, STEPS)
alpha_bar = torch.cumprod(1 - betas, 0)


class SwishFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad_output):
        x, = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad_output * s * (1 - s)


class Swish(nn.Module):
    def forward(self, x):
        return SwishFunction.apply(x)


class Denoiser(nn.Module):
    def __init__(self, width=96):
        super().__init__()
        self.time = nn.Embedding(STEPS, 16)
        self.net = nn.Sequential(nn.Linear(18, width), Swish(), nn.Linear(width, width), Swish(),
                                 nn.Linear(width, width), Swish(), nn.Linear(width, 2))

    def forward(self, x, t):
        return self.net(torch.cat([x, self.time(t)], 1))


def training_step(model, x0):
    t = torch.randint(0, STEPS, (len(x0),))
    noise = torch.randn_like(x0)
    a = alpha_bar[t].unsqueeze(1)
    xt = a.sqrt() * x0 + (1 - a).sqrt() * noise
    return nn.functional.mse_loss(model(xt, t), noise)


u = torch.rand(4000).sqrt() * 3 * math.pi
spiral = torch.stack([u * u.cos(), u * u.sin()], 1) / 5 + 0.03 * torch.randn(4000, 2)
train_loader = DataLoader(spiral, batch_size=128, shuffle=True)
model = Denoiser()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
