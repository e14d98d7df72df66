import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
NUM_CLASSES = 5


def textures(n, size=16):
    """Oriented gratings with random phase and colour, one angle per class."""
    y = torch.randint(0, NUM_CLASSES, (n,))
    angle = math.pi * y / NUM_CLASSES + 0.08 * torch.randn(n)
    phase = 2 * math.pi * torch.rand(n)
    g = torch.arange(size).float()
    yy, xx = torch.meshgrid(g, g, indexing="ij")
    wave = torch.sin(0.9 * (xx * angle.cos().view(-1, 1, 1) + yy * angle.sin().view(-1, 1, 1)) + phase.view(-1, 1, 1))
    colour = torch.rand(n, 3, 1, 1) + 0.3
    x = colour * wave.unsqueeze(1) + 0.7 * torch.randn(n, 3, size, size)
    return x, y


train_set = TensorDataset(*textures(1536))
test_set = TensorDataset(*textures(384))
train_loader = DataLoader(train_set, batch_size=64, shuffle=True, drop_last=True)
test_loader = DataLoader(test_set, batch_size=128)


class BasicBlock(nn.Module):
    def __init__(self, c_in, c_out, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.down = None
        if stride != 1 or c_in != c_out:
            self.down = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        skip = x if self.down is None else self.down(x)
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return F.relu(out + skip)


class ResNet(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.layers = nn.Sequential(
            BasicBlock(16, 16),
            BasicBlock(16, 32, 2),
            BasicBlock(32, 32),
        )
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(32, num_classes)

    def forward(self, x):
        x = self.layers(self.stem(x))
        x = x.mean(dim=(2, 3))
        return self.fc(self.drop(x))


model = ResNet(NUM_CLASSES)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=1000)
