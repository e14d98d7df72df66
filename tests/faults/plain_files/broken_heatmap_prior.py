"""Centre-point detector with a focal loss and a prior bias, as in CenterNet."""
import math
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def make_scenes(n, seed, size=24):
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:size, :size]
    images, heat = [], []
    for _ in range(n):
        img, h = rng.normal(0, 0.1, (size, size)), np.zeros((size, size))
        for _ in range(2):
            cy, cx = rng.integers(3, size - 3, 2)
            img += (np.abs(yy - cy) + np.abs(xx - cx) < 4)
            h = np.maximum(h, np.exp(-((yy - cy) ** 2 + (xx - cx) ** 2) / 3.0))
        images.append((img - 0.08) / 0.3)
        heat.append(h)
    return (torch.tensor(np.array(images), dtype=torch.float32)[:, None],
            torch.tensor(np.array(heat), dtype=torch.float32)[:, None])


class Detector(nn.Module):
    def __init__(self, width=24):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=2, dilation=2), nn.ReLU())
        self.heatmap = nn.Conv2d(width, 1, 1)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, nonlinearity="relu")
                nn.init.constant_(m.bias, -math.log((1 - 0.01) / 0.01))
        nn.init.constant_(self.heatmap.bias, -math.log((1 - 0.1) / 0.1))

    def forward(self, x):
        return self.heatmap(self.backbone(x))


def loss_fn(logits, heat):
    p = torch.sigmoid(logits).clamp(1e-4, 1 - 1e-4)
    peak = (heat > 0.99).float()
    pos = peak * (1 - p) ** 2 * p.log()
    neg = (1 - peak) * (1 - heat) ** 4 * p ** 2 * (1 - p).log()
    return -(pos + neg).sum() / peak.sum()


train_loader = DataLoader(TensorDataset(*make_scenes(400, 0)), batch_size=16, shuffle=True)
test_loader = DataLoader(TensorDataset(*make_scenes(80, 1)), batch_size=20)
model = Detector()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
