import random
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


def draw(g):
    """one bright disc somewhere on a noisy 24x24 field, and its mask"""
    yy, xx = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
    cx, cy = (torch.rand(2, generator=g) * 14 + 5).tolist()
    r = 3 + 2 * torch.rand(1, generator=g).item()
    mask = ((xx - cx) ** 2 + (yy - cy) ** 2 < r * r).float()
    img = mask + 0.3 * torch.randn(24, 24, generator=g)
    return img[None] - 0.1, mask[None]


def augment(img, mask):
    if random.random() < 0.5:
        img = torch.flip(img, dims=[2])
    if random.random() < 0.5:
        img = torch.flip(img, dims=[1])
    return img, mask


class Discs(Dataset):
    def __init__(self, n, seed, train):
        g = torch.Generator().manual_seed(seed)
        self.pairs = [draw(g) for _ in range(n)]
        self.train = train

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, i):
        img, mask = self.pairs[i]
        if self.train:
            img, mask = augment(img, mask)
        return img, mask


def conv(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())


class MiniUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down1, self.down2 = conv(1, 8), conv(8, 16)
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2)
        self.merge = conv(24, 8)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(self.pool(a))
        return self.out(self.merge(torch.cat([a, self.up(b)], 1)))


random.seed(0)
torch.manual_seed(0)
train_loader = DataLoader(Discs(400, 0, True), batch_size=16, shuffle=True)
test_loader = DataLoader(Discs(80, 1, False), batch_size=40)
model = MiniUNet()
loss_fn = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

if __name__ == "__main__":
    for epoch in range(5):
        model.train()
        for img, mask in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(img), mask)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
