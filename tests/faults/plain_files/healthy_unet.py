"""Binary segmentation with a small U-Net, BCE + soft Dice."""
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


def make_scenes(n, seed, size=24):
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:size, :size]
    xs, ms = [], []
    for _ in range(n):
        cy, cx, r = rng.uniform(6, 18), rng.uniform(6, 18), rng.uniform(3, 6)
        mask = (yy - cy) ** 2 + (xx - cx) ** 2 < r ** 2
        img = mask * 0.8 + np.sin(xx / rng.uniform(2, 5)) * 0.3 + rng.normal(0, 0.2, mask.shape)
        xs.append(img)
        ms.append(mask)
    return (torch.tensor(np.array(xs), dtype=torch.float32)[:, None],
            torch.tensor(np.array(ms), dtype=torch.float32)[:, None])


def double(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(),
                         nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.d1, self.d2, self.d3 = double(1, 8), double(8, 16), double(16, 32)
        self.up2 = nn.ConvTranspose2d(32, 16, 2, stride=2)
        self.u2 = double(32, 16)
        self.up1 = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.u1 = double(16, 8)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        a = self.d1(x)
        b = self.d2(F.max_pool2d(a, 2))
        c = self.d3(F.max_pool2d(b, 2))
        c = self.u2(torch.cat([self.up2(c), b], 1))
        c = self.u1(torch.cat([self.up1(c), a], 1))
        return self.out(c)


def loss_fn(logits, mask):
    p = torch.sigmoid(logits)
    inter = (p * mask).sum((1, 2, 3))
    dice = (2 * inter + 1) / (p.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(logits, mask) + (1 - dice).mean()


train_loader = DataLoader(TensorDataset(*make_scenes(300, 0)), batch_size=16, shuffle=True)
test_loader = DataLoader(TensorDataset(*make_scenes(60, 1)), batch_size=20)
model = UNet()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
