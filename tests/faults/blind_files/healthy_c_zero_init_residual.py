import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def fabrics(n, size=16):
    y = torch.randint(0, 4, (n,))
    xx = torch.arange(size).float()
    period = torch.tensor([2.5, 3.5, 5.0, 8.0])[y][:, None]
    phase = 6.28 * torch.rand(n, 1)
    rows, cols = torch.sin(6.28 * xx / period + phase), torch.cos(6.28 * xx / period + phase)
    return TensorDataset((rows[:, None] * cols[:, :, None] + 0.6 * torch.randn(n, size, size))[:, None], y)


class BasicBlock(nn.Module):
    def __init__(self, i, o, stride=1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.down = None if i == o and stride == 1 else nn.Conv2d(i, o, 1, stride, bias=False)

    def forward(self, x):
        skip = x if self.down is None else self.down(x)
        h = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(skip + self.bn2(self.conv2(h)))


class ResNet(nn.Module):
    def __init__(self, n_classes=4, w=16):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, w, 3, 1, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU())
        self.layers = nn.Sequential(BasicBlock(w, w), BasicBlock(w, 2 * w, 2), BasicBlock(2 * w, 2 * w))
        self.fc = nn.Linear(2 * w, n_classes)
        for m in self.modules():
            if isinstance(m, BasicBlock):
                nn.init.zeros_(m.bn2.weight)
        nn.init.zeros_(self.fc.weight)

    def forward(self, x):
        return self.fc(self.layers(self.stem(x)).mean((2, 3)))


decay = lambda m: [p for p in m.parameters() if p.ndim > 1]
no_decay = lambda m: [p for p in m.parameters() if p.ndim <= 1]
train_loader = DataLoader(fabrics(1600), batch_size=50, shuffle=True)
test_loader = DataLoader(fabrics(400), batch_size=100)
model = ResNet()
loss_fn = nn.CrossEntropyLoss(label_smoothing=0.05)
optimizer = torch.optim.SGD([
    {"params": decay(model), "weight_decay": 5e-4}, {"params": no_decay(model), "weight_decay": 0.0}],
    lr=0.1, momentum=0.9, nesterov=True)
