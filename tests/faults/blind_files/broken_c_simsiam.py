import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class TwoViews(Dataset):
    """Signals of hidden classes; every item gives two augmented views."""

    def __init__(self, n=1500, length=48, seed=0):
        g = torch.Generator().manual_seed(seed)
        freq = 1 + torch.randint(0, 8, (n, 1), generator=g)
        amp = torch.rand(n, 1, generator=g) + 0.5
        t = torch.linspace(0, 6.28, length)
        self.x = amp * torch.sin(freq * t) + 0.3 * torch.cos(2 * freq * t)

    def augment(self, x):
        x = x * (0.8 + 0.4 * torch.rand(1))
        x = x.roll(int(torch.randint(-3, 4, (1,))))
        return x + 0.15 * torch.randn_like(x)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.augment(self.x[i]), self.augment(self.x[i])


class SimSiam(nn.Module):
    def __init__(self, dim=64, pred=16):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(48, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 128), nn.BatchNorm1d(128), nn.ReLU(),
            nn.Linear(128, dim))
        self.predictor = nn.Sequential(nn.Linear(dim, pred), nn.BatchNorm1d(pred), nn.ReLU(), nn.Linear(pred, dim))

    def forward(self, a, b):
        za, zb = self.encoder(a), self.encoder(b)
        return self.predictor(za), self.predictor(zb), za, zb


def negative_cosine(p, z):
    return -F.cosine_similarity(p, z, dim=1).mean()


def training_step(model, batch):
    pa, pb, za, zb = model(*batch)
    return 0.5 * negative_cosine(pa, zb) + 0.5 * negative_cosine(pb, za)


torch.manual_seed(0)
train_loader = DataLoader(TwoViews(), batch_size=64, shuffle=True, drop_last=True)
model = SimSiam()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
