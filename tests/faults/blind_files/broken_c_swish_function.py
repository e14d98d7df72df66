import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


class SwishFunction(torch.autograd.Function):
    """Swish that keeps only its input for the backward pass."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx, grad_output):
        x, = ctx.saved_tensors
        s = torch.sigmoid(x)
        return grad_output * (s * (1 - s))


class MemoryEfficientSwish(nn.Module):
    def forward(self, x):
        return SwishFunction.apply(x)


class SqueezeExcite(nn.Module):
    def __init__(self, c, r=4):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(c, c // r, 1), MemoryEfficientSwish(), nn.Conv2d(c // r, c, 1), nn.Sigmoid())

    def forward(self, x):
        return x * self.net(x.mean((2, 3), keepdim=True))


class MBConv(nn.Module):
    def __init__(self, c, expand=3):
        super().__init__()
        h = c * expand
        self.net = nn.Sequential(
            nn.Conv2d(c, h, 1, bias=False), nn.BatchNorm2d(h), MemoryEfficientSwish(),
            nn.Conv2d(h, h, 3, padding=1, groups=h, bias=False), nn.BatchNorm2d(h), MemoryEfficientSwish(),
            SqueezeExcite(h), nn.Conv2d(h, c, 1, bias=False), nn.BatchNorm2d(c))

    def forward(self, x):
        return x + self.net(x)


class EfficientNetMini(nn.Module):
    def __init__(self, c=16, n_classes=6):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, c, 3, 2, 1, bias=False), nn.BatchNorm2d(c), MemoryEfficientSwish())
        self.blocks = nn.Sequential(MBConv(c), MBConv(c))
        self.head = nn.Linear(c, n_classes)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def gratings(n, size=16):
    y = torch.randint(0, 6, (n,))
    yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    a = (y * 0.5236)[:, None, None]
    wave = torch.sin(1.1 * (xx * torch.cos(a) + yy * torch.sin(a)) + 6.28 * torch.rand(n, 1, 1))
    return TensorDataset((wave + 1.0 * torch.randn(n, size, size))[:, None], y)


train_loader = DataLoader(gratings(1500), batch_size=50, shuffle=True)
test_loader = DataLoader(gratings(300), batch_size=100)
model = EfficientNetMini()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, momentum=0.9, eps=1e-3)
