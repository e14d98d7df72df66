from functools import partial
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
BN_MOMENTUM, BN_EPSILON = 0.9997, 1e-3
norm_layer = partial(nn.BatchNorm2d, momentum=1 - BN_MOMENTUM, eps=BN_EPSILON)


def textures(n, size=16):
    y = torch.randint(0, 5, (n,))
    yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    angle = (y.float() * 0.628)[:, None, None]
    phase = 6.28 * torch.rand(n, 1, 1)
    wave = torch.sin(1.3 * (xx * torch.cos(angle) + yy * torch.sin(angle)) + phase)
    return TensorDataset((wave + 0.8 * torch.randn(n, size, size)).unsqueeze(1), y)


class DepthwiseSeparable(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(i, i, 3, stride, 1, groups=i, bias=False), norm_layer(i), nn.ReLU6(inplace=True),
            nn.Conv2d(i, o, 1, bias=False), norm_layer(o), nn.ReLU6(inplace=True))

    def forward(self, x):
        return self.net(x)


class TinyMobileNet(nn.Module):
    def __init__(self, n_classes=5):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2, bias=False), norm_layer(16), nn.ReLU6(inplace=True))
        self.blocks = nn.Sequential(DepthwiseSeparable(16, 32, 2), DepthwiseSeparable(32, 48), DepthwiseSeparable(48, 64, 2))
        self.classifier = nn.Linear(64, n_classes)

    def forward(self, x):
        return self.classifier(self.blocks(self.stem(x)).mean((2, 3)))


train_loader = DataLoader(textures(1500), batch_size=50, shuffle=True)
test_loader = DataLoader(textures(300), batch_size=100)
model = TinyMobileNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
