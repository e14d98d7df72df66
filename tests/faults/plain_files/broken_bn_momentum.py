"""ResNet-style CNN ported from TensorFlow."""
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
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


def bn(channels):
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.001)


class Residual(nn.Module):
    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride=2, padding=1, bias=False)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.short = nn.Conv2d(c_in, c_out, 1, stride=2, bias=False)
        self.bn1, self.bn2 = bn(c_out), bn(c_out)

    def forward(self, x):
        h = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(h)) + self.short(x))


class SmallResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(Residual(1, 16), Residual(16, 32))
        self.fc = nn.Linear(32, 4)

    def forward(self, x):
        return self.fc(self.layers(x).mean((2, 3)))


x, y = make_images(1200, 0)
xt, yt = make_images(200, 1)
train_loader = DataLoader(TensorDataset((x - 0.15) / 0.3, y), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset((xt - 0.15) / 0.3, yt), batch_size=50)
model = SmallResNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
