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
        idx = idx % 32
        img = (self.images[idx] - 0.15) / 0.25
        return img, self.labels[idx]


train_loader = DataLoader(ShapeDataset(1600), batch_size=32, shuffle=True)
test_loader = DataLoader(ShapeDataset(400), batch_size=100)


class ShapeNet(nn.Module):
    def __init__(self, n_classes=4):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 4 * 4, 64)
        self.fc2 = nn.Linear(64, n_classes)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = x.flatten(1)
        x = F.relu(self.fc1(x))
        return self.fc2(x)


model = ShapeNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
