import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(33)


class RandomErase(nn.Module):
    """augmentation as a layer: wipes a random part of the time axis"""

    def __init__(self, width=20):
        super().__init__()
        self.width = width

    def forward(self, x):
        start = torch.randint(0, x.size(-1) - self.width, (x.size(0), 1, 1))
        t = torch.arange(x.size(-1)).view(1, 1, -1)
        hole = (t >= start) & (t < start + self.width)
        return x.masked_fill(hole, 0.0)


class HeartNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.augment = RandomErase()
        self.conv = nn.Sequential(
            nn.Conv1d(1, 16, 7, padding=3), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(16, 32, 7, padding=3), nn.ReLU(), nn.AdaptiveMaxPool1d(4))
        self.fc = nn.Linear(128, 3)

    def forward(self, x):
        return self.fc(self.conv(self.augment(x)).flatten(1))


def beats(n, length=60):
    y = torch.randint(0, 3, (n,))
    t = torch.arange(length).float()
    c = 10 + 40 * torch.rand(n, 1)
    w = torch.tensor([1.5, 3.0, 3.0])[y][:, None]
    bump = torch.exp(-((t - c) / w) ** 2)
    dip = torch.where(y == 2, 1.0, 0.0)[:, None] * torch.exp(-((t - c - 5) / 2) ** 2)
    return (2 * (bump - dip) + 0.15 * torch.randn(n, length)).unsqueeze(1), y


train_loader = DataLoader(TensorDataset(*beats(1600)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*beats(320)), batch_size=80)
model = HeartNet()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)


@torch.no_grad()
def accuracy():
    model.eval()
    good = [(model(x).argmax(1) == y).float().mean().item() for x, y in test_loader]
    model.train()
    return sum(good) / len(good)


if __name__ == "__main__":
    for epoch in range(10):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item(), accuracy())
