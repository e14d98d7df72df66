import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def styles(n, size=20):
    """Paintings of 5 styles: a colour palette with strokes of one direction."""
    y = torch.randint(0, 5, (n,))
    palette = torch.rand(5, 3, 1, 1, generator=torch.Generator().manual_seed(14))
    yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    a = (y * 0.628)[:, None, None, None]
    strokes = torch.sin(1.2 * (xx * torch.cos(a) + yy * torch.sin(a)) + 6.28 * torch.rand(n, 1, 1, 1))
    return TensorDataset(palette[y] - 0.5 + 0.3 * strokes + 0.3 * torch.randn(n, 3, size, size), y)


class StyleEncoder(nn.Module):
    def __init__(self, w=12):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, w, 5, 1, 2), nn.InstanceNorm2d(w, affine=True), nn.ReLU(inplace=True),
            nn.Conv2d(w, 2 * w, 3, 2, 1), nn.InstanceNorm2d(2 * w, affine=True), nn.ReLU(inplace=True),
            nn.Conv2d(2 * w, 4 * w, 3, 2, 1), nn.InstanceNorm2d(4 * w, affine=True))
        self.out_dim = 4 * w

    def forward(self, x):
        return self.net(x)


class StyleClassifier(nn.Module):
    def __init__(self, n_classes=5):
        super().__init__()
        self.encoder = StyleEncoder()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(self.encoder.out_dim, 64), nn.ReLU(), nn.Linear(64, n_classes))

    def forward(self, x):
        return self.head(self.pool(self.encoder(x)))


train_loader = DataLoader(styles(1500), batch_size=50, shuffle=True)
test_loader = DataLoader(styles(300), batch_size=100)
model = StyleClassifier()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
