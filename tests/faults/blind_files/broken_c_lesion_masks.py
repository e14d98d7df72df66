import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class LesionPatches(Dataset):
    """Small patches with faint round lesions, mask per pixel."""

    def __init__(self, n, seed, size=24):
        g = torch.Generator().manual_seed(seed)
        yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        self.x, self.y = [], []
        for _ in range(n):
            c = torch.randint(3, size - 3, (2,), generator=g)
            present = float(torch.rand(1, generator=g) < 0.3)
            mask = present * (((xx - c[0]) ** 2 + (yy - c[1]) ** 2) < 3).float()
            img = 0.5 * torch.randn(size, size, generator=g) + 0.8 * mask
            self.x.append(img[None])
            self.y.append(mask[None])

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        x, y = self.x[i], self.y[i]
        if torch.rand(1) < 0.5:
            x, y = x.flip(-1), y.flip(-1)
        return x, y


class SegNet(nn.Module):
    def __init__(self, w=16):
        super().__init__()
        layers, c = [], 1
        for _ in range(3):
            layers += [nn.Conv2d(c, w, 3, padding=1), nn.BatchNorm2d(w), nn.ReLU(inplace=True)]
            c = w
        self.body = nn.Sequential(*layers)
        self.out = nn.Conv2d(w, 1, 1)

    def forward(self, x):
        return self.out(self.body(x))


torch.manual_seed(0)
train_loader = DataLoader(LesionPatches(400, 0), batch_size=16, shuffle=True)
test_loader = DataLoader(LesionPatches(80, 1), batch_size=40)
model = SegNet()
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
