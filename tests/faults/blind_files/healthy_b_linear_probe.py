import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(114)


class Extractor(nn.Module):
    """fixed random-filter bank + pooling, never trained"""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 48, 5, padding=2)
        self.bn = nn.BatchNorm2d(48, affine=False)

    def forward(self, x):
        f = torch.relu(self.bn(self.conv(x)))
        return nn.functional.adaptive_avg_pool2d(f, 3).flatten(1)


class Probe(nn.Module):
    def __init__(self, extractor, classes):
        super().__init__()
        self.extractor = extractor
        for p in self.extractor.parameters():
            p.requires_grad_(False)
        self.norm = nn.LayerNorm(48 * 9)
        self.linear = nn.Linear(48 * 9, classes)

    def train(self, mode=True):
        super().train(mode)
        self.extractor.eval()
        return self

    def forward(self, x):
        with torch.no_grad():
            f = self.extractor(x)
        return self.linear(self.norm(f))


def gratings(n):
    y = torch.randint(0, 4, (n,))
    a = y * 0.7854
    r = torch.arange(15).float()
    u = a.cos()[:, None, None] * r[None, :, None] + a.sin()[:, None, None] * r[None, None]
    img = torch.sin(1.1 * u + 6.28 * torch.rand(n, 1, 1)) + 1.0 * torch.randn(n, 15, 15)
    return img[:, None], y


train_x, train_y = gratings(1200)
extractor = Extractor()
with torch.no_grad():
    for _ in range(40):
        extractor(train_x[torch.randperm(1200)[:200]])  # settle the running statistics

train_loader = DataLoader(TensorDataset(train_x, train_y), batch_size=40, shuffle=True)
test_loader = DataLoader(TensorDataset(*gratings(240)), batch_size=80)
model = Probe(extractor, 4)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)

if __name__ == "__main__":
    for epoch in range(8):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
