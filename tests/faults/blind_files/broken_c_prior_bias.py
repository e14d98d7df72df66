import math
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Spots(Dataset):
    """Images with 1-3 bright spots; the target is a grid of objectness and the offset of the centre."""

    def __init__(self, n, seed, size=32, stride=4):
        g = torch.Generator().manual_seed(seed)
        yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        self.items = []
        for _ in range(n):
            img = 0.25 * torch.randn(1, size, size, generator=g)
            obj, off = torch.zeros(size // stride, size // stride), torch.zeros(2, size // stride, size // stride)
            for _ in range(int(torch.randint(1, 4, (1,), generator=g))):
                c = 3 + 26 * torch.rand(2, generator=g)
                img[0] += 1.5 * torch.exp(-((xx - c[0]) ** 2 + (yy - c[1]) ** 2) / 4)
                i, j = int(c[1] // stride), int(c[0] // stride)
                obj[i, j] = 1
                off[:, i, j] = c / stride - torch.tensor([j, i]) - 0.5
            self.items.append((img, obj, off))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class RetinaHead(nn.Module):
    def __init__(self, w=24, prior=0.01):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, w, 3, 2, 1), nn.ReLU(), nn.Conv2d(w, w, 3, 2, 1), nn.ReLU())
        self.cls_tower = nn.Sequential(nn.Conv2d(w, w, 3, padding=1), nn.ReLU(), nn.Conv2d(w, w, 3, padding=1), nn.ReLU())
        self.reg_tower = nn.Sequential(nn.Conv2d(w, w, 3, padding=1), nn.ReLU())
        self.cls_logits, self.offsets = nn.Conv2d(w, 1, 1), nn.Conv2d(w, 2, 1)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight)
                nn.init.constant_(m.bias, -math.log((1 - prior) / prior))
        nn.init.zeros_(self.offsets.bias)

    def forward(self, x):
        f = self.backbone(x)
        return self.cls_logits(self.cls_tower(f)).squeeze(1), self.offsets(self.reg_tower(f))


def training_step(model, batch, gamma=2.0):
    img, obj, off = batch
    logits, pred = model(img)
    ce = F.binary_cross_entropy_with_logits(logits, obj, reduction="none")
    pt = torch.exp(-ce)
    focal = ((1 - pt) ** gamma * ce).sum() / obj.sum().clamp(min=1)
    reg = (F.smooth_l1_loss(pred, off, reduction="none") * obj[:, None]).sum() / obj.sum().clamp(min=1)
    return focal + reg


torch.manual_seed(0)
train_loader = DataLoader(Spots(600, 0), batch_size=24, shuffle=True)
test_loader = DataLoader(Spots(96, 1), batch_size=24)
model = RetinaHead()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
