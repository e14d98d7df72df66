import math
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Centres(Dataset):
    """Heat-map detection: about one positive cell in fifty."""

    def __init__(self, n, seed, size=28, stride=4):
        g = torch.Generator().manual_seed(seed)
        yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        self.items = []
        for _ in range(n):
            img, heat = 0.3 * torch.randn(1, size, size, generator=g), torch.zeros(1, size // stride, size // stride)
            c = torch.randint(2, size - 2, (2,), generator=g)
            img[0] += 1.6 * ((xx - c[0]).abs() + (yy - c[1]).abs() < 4)
            heat[0, c[1] // stride, c[0] // stride] = 1.0
            self.items.append((img, heat))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class CenterNet(nn.Module):
    def __init__(self, w=24, prior=0.02):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, w, 3, 2, 1), nn.GroupNorm(4, w), nn.ReLU(), nn.Conv2d(w, w, 3, 2, 1), nn.GroupNorm(4, w), nn.ReLU())
        self.head = nn.Sequential(nn.Conv2d(w, w, 3, padding=1), nn.ReLU(), nn.Conv2d(w, 1, 1))
        nn.init.normal_(self.head[-1].weight, std=0.01)
        nn.init.constant_(self.head[-1].bias, -math.log((1 - prior) / prior))

    def forward(self, x):
        return self.head(self.backbone(x))


def loss_fn(logits, heat, gamma=2.0, alpha=0.75):
    ce = F.binary_cross_entropy_with_logits(logits, heat, reduction="none")
    p = torch.sigmoid(logits)
    pt = p * heat + (1 - p) * (1 - heat)
    weight = (alpha * heat + (1 - alpha) * (1 - heat)) * (1 - pt) ** gamma
    return (weight * ce).sum() / heat.sum().clamp(min=1)


torch.manual_seed(0)
train_loader = DataLoader(Centres(800, 0), batch_size=32, shuffle=True)
test_loader = DataLoader(Centres(128, 1), batch_size=64)
model = CenterNet()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
