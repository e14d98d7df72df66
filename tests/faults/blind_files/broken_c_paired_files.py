import random
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

N = 1200


def render(i, size=16):
    """Image number i: a bar whose direction and place are drawn from i."""
    g = torch.Generator().manual_seed(i)
    horizontal, wide = int(torch.rand(1, generator=g) < 0.5), int(torch.rand(1, generator=g) < 0.5)
    img = 0.4 * torch.randn(1, size, size, generator=g)
    at, width = int(torch.randint(1, size - 5, (1,), generator=g)), 4 if wide else 2
    if horizontal:
        img[:, at:at + width] += 1.2
    else:
        img[:, :, at:at + width] += 1.2
    return img, horizontal * 2 + wide


DISK = {}
for i in range(N):
    DISK[f"images/{i}.png"], DISK[f"labels/{i}.txt"] = render(i)


class PairedFiles(Dataset):
    def __init__(self, disk, augment=False):
        listing = list(disk)
        random.Random(4).shuffle(listing)
        self.images = sorted(p for p in listing if p.startswith("images/"))
        self.labels = [p for p in listing if p.startswith("labels/")]
        assert len(self.images) == len(self.labels)
        self.disk, self.augment = disk, augment

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        img, y = self.disk[self.images[i]], self.disk[self.labels[i]]
        if self.augment and random.random() < 0.5:
            img = img.flip(1, 2)
        return img, y


class BarNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(32 * 16, 4))

    def forward(self, x):
        return self.head(self.conv(x))


torch.manual_seed(0)
random.seed(0)
train_loader = DataLoader(PairedFiles(DISK, augment=True), batch_size=48, shuffle=True)
model = BarNet()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
