import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional as TF


class Carvana(Dataset):
    """uint8 photo and uint8 mask (0 or 255), as read from png files."""

    def __init__(self, n, seed, train=True, size=20):
        g = torch.Generator().manual_seed(seed)
        yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        self.photos, self.masks, self.train = [], [], train
        for _ in range(n):
            c = torch.randint(5, size - 5, (2,), generator=g)
            r = torch.randint(4, 8, (2,), generator=g)
            car = ((xx - c[0]).abs() < r[0]) & ((yy - c[1]).abs() < r[1])
            base = torch.where(car, 165.0, 95.0) + 45 * torch.randn(3, size, size, generator=g)
            self.photos.append(base.clamp(0, 255).to(torch.uint8))
            self.masks.append((car * 255).to(torch.uint8))

    def __len__(self):
        return len(self.photos)

    def __getitem__(self, i):
        photo, mask = self.photos[i], self.masks[i]
        if self.train and torch.rand(()) < 0.5:
            photo, mask = TF.hflip(photo), TF.hflip(mask)
        photo = TF.normalize(photo.float() / 255, [0.45] * 3, [0.2] * 3)
        return photo, mask.float().unsqueeze(0)


class Block(nn.Sequential):
    def __init__(self, i, o, dilation=1):
        super().__init__(nn.Conv2d(i, o, 3, padding=dilation, dilation=dilation, bias=False), nn.BatchNorm2d(o), nn.ReLU())


class DilatedNet(nn.Module):
    def __init__(self, w=16):
        super().__init__()
        self.net = nn.Sequential(Block(3, w), Block(w, w, 2), Block(w, w, 4), nn.Conv2d(w, 1, 1))

    def forward(self, x):
        return self.net(x)


def loss_fn(logits, mask):
    bce = nn.functional.binary_cross_entropy_with_logits(logits, mask)
    p = torch.sigmoid(logits)
    dice = 1 - (2 * (p * mask).sum((1, 2, 3)) + 1) / (p.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 1)
    return bce + dice.mean()


torch.manual_seed(0)
train_loader = DataLoader(Carvana(320, 0), batch_size=16, shuffle=True)
test_loader = DataLoader(Carvana(64, 1, train=False), batch_size=32)
model = DilatedNet()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
