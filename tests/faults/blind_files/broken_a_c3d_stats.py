import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(13)


def clips(n, frames=6, size=12):
    """A bright patch drifting in one of four directions over a textured background."""
    y = torch.randint(0, 4, (n,))
    step = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])[y]
    start = torch.randint(0, size, (n, 2))
    vid = 0.6 + 0.2 * torch.rand(n, 1, 1, size, size) + 0.1 * torch.rand(n, 1, frames, size, size)
    rng = torch.arange(size)
    for f in range(frames):
        pos = (start + f * step) % size
        row = ((rng[None] - pos[:, :1]) % size < 3).float()
        col = ((rng[None] - pos[:, 1:]) % size < 3).float()
        vid[:, 0, f] += row[:, :, None] * col[:, None, :]
    return TensorDataset(vid, y)


class C3D(nn.Module):
    def __init__(self, ch=8):
        super().__init__()
        self.conv1 = nn.Conv3d(1, ch, 3, padding=1)
        self.bn1 = nn.BatchNorm3d(ch, momentum=1e-3)
        self.conv2 = nn.Conv3d(ch, 2 * ch, 3, padding=1)
        self.bn2 = nn.BatchNorm3d(2 * ch, momentum=1e-3)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.fc = nn.Linear(2 * ch, 4)

    def forward(self, x):
        x = self.pool(self.relu(self.bn1(self.conv1(x))))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.fc(x.mean(dim=(2, 3, 4)))


model = C3D()
train_loader = DataLoader(clips(600), batch_size=24, shuffle=True)
test_loader = DataLoader(clips(150), batch_size=50)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

if __name__ == "__main__":
    for epoch in range(6):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            acc = sum((model(x).argmax(1) == y).sum().item() for x, y in test_loader) / 150
        print(epoch, loss.item(), acc)
