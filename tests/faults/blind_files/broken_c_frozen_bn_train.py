import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def shapes(n, size=16):
    y = torch.randint(0, 3, (n,))
    yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    c = torch.randint(5, 11, (n, 2, 1, 1))
    dx, dy = (xx - c[:, 0]).abs(), (yy - c[:, 1]).abs()
    masks = torch.stack([(dx < 4) & (dy < 4), dx + dy < 5, (dx < 2) | (dy < 2)], 1)
    img = masks[torch.arange(n), y].float() + 0.5 * torch.randn(n, size, size)
    return TensorDataset(img[:, None].repeat(1, 3, 1, 1), y)


class Backbone(nn.Sequential):
    def __init__(self, w=24):
        super().__init__(
            nn.Conv2d(3, w, 3, padding=1, bias=False), nn.BatchNorm2d(w), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(w, 2 * w, 3, padding=1, bias=False), nn.BatchNorm2d(2 * w), nn.ReLU(), nn.MaxPool2d(2))
        self.out_channels = 2 * w


class TransferModel(nn.Module):
    """Fine-tunes a backbone whose batch-norm statistics stay those of the pre-training."""

    def __init__(self, backbone, n_classes):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Sequential(
            nn.Flatten(), nn.Linear(backbone.out_channels * 16, 64), nn.ReLU(), nn.Dropout(0.4), nn.Linear(64, n_classes))

    def train(self, mode=True):
        super().train()
        for m in self.backbone.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.eval()
        return self

    def forward(self, x):
        return self.head(self.backbone(x))


train_loader = DataLoader(shapes(1200), batch_size=40, shuffle=True)
test_loader = DataLoader(shapes(300), batch_size=100)
backbone = Backbone()
with torch.no_grad():
    backbone.train()
    for x, _ in train_loader:
        backbone(x)
model = TransferModel(backbone, n_classes=3)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam([
    {"params": model.backbone.parameters(), "lr": 3e-4}, {"params": model.head.parameters(), "lr": 1e-3}])
