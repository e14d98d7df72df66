import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def scenes(n, size=20):
    y = torch.randint(0, 5, (n,))
    proto = nn.functional.interpolate(
        torch.randn(5, 3, 5, 5, generator=torch.Generator().manual_seed(13)), scale_factor=4, mode="bilinear")
    return TensorDataset(proto[y] + 0.8 * torch.randn(n, 3, size, size), y)


class RandomFilters(nn.Module):
    """Stands for a pre-trained trunk: its weights and statistics are fixed."""

    def __init__(self, w=32):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, w, 5, 2, 2, bias=False), nn.BatchNorm2d(w), nn.ReLU(),
            nn.Conv2d(w, w, 3, 2, 1, bias=False), nn.BatchNorm2d(w), nn.ReLU())

    def forward(self, x):
        return self.net(x)


class LinearProbe(nn.Module):
    def __init__(self, trunk, n_classes=5):
        super().__init__()
        self.trunk = trunk.requires_grad_(False)
        self.head = nn.Sequential(nn.Flatten(), nn.LayerNorm(800), nn.Dropout(0.2), nn.Linear(800, n_classes))

    def train(self, mode=True):
        super().train(mode)
        self.trunk.eval()
        return self

    def forward(self, x):
        with torch.no_grad():
            f = self.trunk(x)
        return self.head(f)


train_loader = DataLoader(scenes(1500), batch_size=50, shuffle=True)
test_loader = DataLoader(scenes(300), batch_size=100)
model = LinearProbe(RandomFilters())
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(filter(lambda p: p.requires_grad, model.parameters()), lr=1e-3, weight_decay=0.05)
