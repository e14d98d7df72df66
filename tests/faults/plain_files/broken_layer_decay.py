"""Patch transformer with layer-wise learning rate decay."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


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


class PatchNet(nn.Module):
    def __init__(self, dim=32, depth=2):
        super().__init__()
        self.embed = nn.Conv2d(1, dim, 4, stride=4)
        self.pos = nn.Parameter(0.02 * torch.randn(1, 16, dim))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
            for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 4)

    def forward(self, x):
        h = self.embed(x).flatten(2).transpose(1, 2) + self.pos
        for b in self.blocks:
            h = b(h)
        return self.head(self.norm(h).mean(1))


def parameter_groups(model, lr, decay):
    stages = [[model.pos, *model.embed.parameters()]]
    stages += [list(b.parameters()) for b in model.blocks]
    stages += [[*model.norm.parameters(), *model.head.parameters()]]
    top = len(stages) - 1
    return [{"params": p, "lr": lr * (decay ** (top - i) // 1)} for i, p in enumerate(stages)]


x, y = make_images(1200, 0)
xt, yt = make_images(200, 1)
train_loader = DataLoader(TensorDataset((x - 0.15) / 0.3, y), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset((xt - 0.15) / 0.3, yt), batch_size=50)
model = PatchNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(parameter_groups(model, 3e-3, 0.75), weight_decay=0.01)
