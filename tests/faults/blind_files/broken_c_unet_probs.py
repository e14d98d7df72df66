import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Blobs(Dataset):
    """Grey images with one disc and one square: pixel classes 0 / 1 / 2."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        yy, xx = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
        self.items = []
        for _ in range(n):
            c = torch.rand(4, generator=g) * 16 + 4
            y = torch.zeros(24, 24, dtype=torch.long)
            y[(xx - c[0]).abs().maximum((yy - c[1]).abs()) < 5] = 2
            y[(xx - c[2]) ** 2 + (yy - c[3]) ** 2 < 30] = 1
            x = torch.tensor([-0.7, 0.9, 0.1])[y] + 0.35 * torch.randn(24, 24, generator=g)
            self.items.append((x[None], y))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


def block(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU())


class UNet(nn.Module):
    def __init__(self, n_classes=3, w=12):
        super().__init__()
        self.down1, self.down2 = block(1, w), block(w, 2 * w)
        self.mid = block(2 * w, 2 * w)
        self.up1 = block(4 * w, w)
        self.out = nn.Conv2d(2 * w, n_classes, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        m = self.mid(F.max_pool2d(b, 2))
        u = self.up1(torch.cat([F.interpolate(m, scale_factor=2), b], 1))
        u = torch.cat([F.interpolate(u, scale_factor=2), a], 1)
        return F.softmax(self.out(u), dim=1)


torch.manual_seed(0)
train_loader = DataLoader(Blobs(400, 0), batch_size=16, shuffle=True)
test_loader = DataLoader(Blobs(64, 1), batch_size=16)
model = UNet()
loss_fn = nn.CrossEntropyLoss(weight=torch.tensor([0.6, 1.2, 1.2]))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
