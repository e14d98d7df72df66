import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def cells(n, size=16):
    y = torch.randint(0, 4, (n,))
    yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    c = torch.randint(5, 11, (n, 2, 1, 1))
    r = ((xx - c[:, 0]) ** 2 + (yy - c[:, 1]) ** 2).float().sqrt()
    ring = torch.exp(-(r - 1.2 * (y[:, None, None] + 0.5)) ** 2)
    return TensorDataset((ring + 0.4 * torch.randn(n, size, size))[:, None], y)


class ConvMixerBlock(nn.Module):
    def __init__(self, dim, k=5):
        super().__init__()
        self.depth = nn.Sequential(nn.Conv2d(dim, dim, k, padding="same", groups=dim), nn.GELU())
        self.point = nn.Sequential(nn.Conv2d(dim, dim, 1), nn.GELU())

    def forward(self, x):
        return self.point(x + self.depth(x))


class ConvMixer(nn.Module):
    def __init__(self, dim=32, depth=3, n_classes=4):
        super().__init__()
        self.stem = nn.Conv2d(1, dim, 2, 2)
        self.blocks = nn.Sequential(*[ConvMixerBlock(dim) for _ in range(depth)])
        self.head = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(dim, n_classes))

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


def param_groups(model, wd):
    decay, rest = [], []
    for p in model.parameters():
        (rest if p.ndim <= 1 else decay).append(p)
    return [{"params": decay, "weight_decay": wd}, {"params": rest, "weight_decay": 0.0}]


train_loader = DataLoader(cells(1600), batch_size=50, shuffle=True)
test_loader = DataLoader(cells(400), batch_size=100)
model = ConvMixer()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(param_groups(model, wd=20.0), lr=3e-3)
