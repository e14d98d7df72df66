"""Tiny vision transformer on oriented gratings, AdamW with warmup + cosine."""
import math

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(4)


class Gratings(Dataset):
    def __init__(self, n, seed, size=16):
        g = torch.Generator().manual_seed(seed)
        yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        self.labels = torch.randint(0, 4, (n,), generator=g)
        angle = self.labels * math.pi / 4
        phase = 2 * math.pi * torch.rand(n, generator=g)
        arg = 0.9 * (xx * angle.cos()[:, None, None] + yy * angle.sin()[:, None, None])
        self.images = (1.4 * torch.sin(arg + phase[:, None, None]) + 0.4 * torch.randn(n, size, size, generator=g))

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.images[i].unsqueeze(0), int(self.labels[i])


class QuickGELU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        s = torch.sigmoid(1.702 * x)
        ctx.save_for_backward(x, s)
        return x * s

    @staticmethod
    def backward(ctx, grad):
        x, s = ctx.saved_tensors
        return grad * 1.702 * x * s * (1 - s)


class Act(nn.Module):
    def forward(self, x):
        return QuickGELU.apply(x)


class Layer(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.att = nn.MultiheadAttention(d, 4, batch_first=True)
        self.ff = nn.Sequential(nn.Linear(d, 2 * d), Act(), nn.Linear(2 * d, d))

    def forward(self, x):
        y = self.n1(x)
        x = x + self.att(y, y, y, need_weights=False)[0]
        x = x + self.ff(self.n2(x))
        return x


class ViT(nn.Module):
    def __init__(self, d=48, depth=4, classes=4):
        super().__init__()
        self.patch = nn.Conv2d(1, d, 4, stride=4)
        self.cls = nn.Parameter(torch.zeros(1, 1, d))
        self.pos = nn.Parameter(0.02 * torch.randn(1, 17, d))
        self.layers = nn.ModuleList(Layer(d) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, classes)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.pos
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x[:, 0]))


train_loader = DataLoader(Gratings(2000, 0), batch_size=50, shuffle=True)
test_loader = DataLoader(Gratings(400, 1), batch_size=100)
model = ViT()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=0.05)
scheduler = torch.optim.lr_scheduler.SequentialLR(optimizer, [
    torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=15),
    torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 300)], milestones=[15])
