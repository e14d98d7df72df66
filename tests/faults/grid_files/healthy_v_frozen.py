"""Tiny CNN that tells drawn shapes apart."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(7)
SHAPES = ["hbar", "vbar", "box", "cross"]


def draw(kind, size=16):
    img = torch.zeros(size, size)
    r, c = torch.randint(1, size - 8, (2,)).tolist()
    if kind == "hbar":
        img[r + 3:r + 5, c:c + 7] = 1
    elif kind == "vbar":
        img[r:r + 7, c + 3:c + 5] = 1
    elif kind == "box":
        img[r:r + 5, c:c + 5] = 1
        img[r + 1:r + 4, c + 1:c + 4] = 0
    else:
        img[r + 3, c:c + 7] = 1
        img[r:r + 7, c + 3] = 1
    return (img + 0.15 * torch.rand(size, size)).clamp(0, 1)


class ShapeDataset(Dataset):
    def __init__(self, n):
        self.labels = torch.randint(0, len(SHAPES), (n,))
        self.images = torch.stack([draw(SHAPES[k]) for k in self.labels.tolist()]).unsqueeze(1)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, idx):
        img = (self.images[idx] - 0.15) / 0.25
        return img, self.labels[idx]


train_loader = DataLoader(ShapeDataset(1600), batch_size=32, shuffle=True)
test_loader = DataLoader(ShapeDataset(400), batch_size=100)


class RotationHead(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 4))

    def forward(self, x):
        return self.head(self.backbone(x))


def pretrain(backbone, steps=60):
    """Learn features from how far an image was rotated."""
    net = RotationHead(backbone)
    opt = torch.optim.Adam(net.parameters(), lr=1e-3)
    images = (ShapeDataset(64 * steps).images - 0.15) / 0.25
    for k in range(steps):
        x = images[64 * k:64 * k + 64]
        r = torch.randint(0, 4, (64,))
        x = torch.stack([torch.rot90(img, int(q), (1, 2)) for img, q in zip(x, r)])
        opt.zero_grad()
        F.cross_entropy(net(x), r).backward()
        opt.step()


backbone = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
)
pretrain(backbone)
backbone.requires_grad_(False)

model = nn.Sequential(backbone, nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 4))
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
