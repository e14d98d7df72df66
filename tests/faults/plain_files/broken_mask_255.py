"""Foreground segmentation; masks come as 8-bit images."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Scenes(Dataset):
    def __init__(self, n, seed, size=20):
        rng = np.random.default_rng(seed)
        yy, xx = np.mgrid[:size, :size]
        self.images = np.zeros((n, size, size), np.uint8)
        self.masks = np.zeros((n, size, size), np.uint8)
        for i in range(n):
            cy, cx, h, w = *rng.integers(5, 15, 2), *rng.integers(2, 6, 2)
            inside = (abs(yy - cy) < h) & (abs(xx - cx) < w)
            self.masks[i] = inside * 255
            self.images[i] = (90 + 80 * inside + rng.normal(0, 20, inside.shape)).clip(0, 255)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        image = torch.from_numpy(self.images[i]).float().unsqueeze(0) / 255
        mask = torch.from_numpy(self.masks[i]).float().unsqueeze(0)
        return (image - 0.4) / 0.17, mask


class SegNet(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.mid = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.up = nn.ConvTranspose2d(width, width, 2, stride=2)
        self.out = nn.Conv2d(width + 1, 1, 3, padding=1)

    def forward(self, x):
        h = torch.relu(self.up(self.mid(self.down(x))))
        return self.out(torch.cat([h, x], 1))


train_loader = DataLoader(Scenes(400, 0), batch_size=16, shuffle=True)
test_loader = DataLoader(Scenes(80, 1), batch_size=20)
model = SegNet()
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
