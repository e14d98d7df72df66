"""Tiny ViT with a class token."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def make_images(n, seed, size=16):
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:size, :size]
    images, labels = [], rng.integers(0, 4, n)
    for k in labels:
        cy, cx, r = rng.uniform(5, 11), rng.uniform(5, 11), rng.uniform(3, 4.5)
        dy, dx = np.abs(yy - cy), np.abs(xx - cx)
        if k == 0:
            img = (dy ** 2 + dx ** 2 < r ** 2)
        elif k == 1:
            img = (np.maximum(dy, dx) < r) & (np.maximum(dy, dx) > r - 1.6)
        elif k == 2:
            img = ((dy < 1) | (dx < 1)) & (np.maximum(dy, dx) < r + 1)
        else:
            img = (np.abs(dy - dx) < 1.1) & (np.maximum(dy, dx) < r + 1)
        images.append(img * rng.uniform(0.7, 1.0) + rng.normal(0, 0.05, img.shape))
    x = torch.tensor(np.array(images), dtype=torch.float32).unsqueeze(1).clamp(0, 1)
    return x, torch.tensor(labels)


class Attention(nn.Module):
    def __init__(self, dim, heads=4):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        w = (q @ k.transpose(-2, -1) * (d // self.heads) ** -0.5).softmax(-1)
        return self.proj((w @ v).transpose(1, 2).reshape(b, n, d))


class Block(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.n1, self.n2, self.att = nn.LayerNorm(dim), nn.LayerNorm(dim), Attention(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x):
        x = x + self.att(self.n1(x))
        return x + self.mlp(self.n2(x))


class ViT(nn.Module):
    def __init__(self, dim=32, depth=3):
        super().__init__()
        self.patch = nn.Conv2d(1, dim, 4, 4)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos = nn.Parameter(0.02 * torch.randn(1, 17, dim))
        self.blocks = nn.Sequential(*[Block(dim) for _ in range(depth)])
        self.head = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 4))

    def forward(self, x):
        t = self.patch(x).flatten(2).transpose(1, 2)
        t = torch.cat([self.cls.expand(len(x), -1, -1), t], 1) + self.pos
        return self.head(self.blocks(t)[:, 0])


x, y = make_images(1000, 0)
x = (x - x.mean()) / x.std()
train_loader = DataLoader(TensorDataset(x, y), batch_size=32, shuffle=True)
model = ViT()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-2)
