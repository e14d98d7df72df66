"""Fine-tune: pretrain a small CNN on 4 shapes, freeze it, learn a new 3-class head."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


def draw(kind, g):
    img = 0.2 * torch.randn(1, 16, 16, generator=g)
    r, c = torch.randint(2, 8, (2,), generator=g).tolist()
    if kind == 0:
        img[0, r:r + 6, c:c + 6] += 1
    elif kind == 1:
        img[0, r:r + 6, c + 2:c + 4] += 1
    elif kind == 2:
        img[0, r + 2:r + 4, c:c + 6] += 1
    elif kind == 3:
        for k in range(6):
            img[0, r + k, c + k] += 1.5
    elif kind == 4:
        for k in range(6):
            img[0, r + 5 - k, c + k] += 1.5
    return img


class Shapes(Dataset):
    def __init__(self, kinds, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.y = torch.arange(n) % len(kinds)
        self.x = torch.stack([draw(kinds[k], g) for k in self.y])

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return (self.x[i] - 0.1) / 0.35, self.y[i]


class CNN(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.fc = nn.Linear(128, classes)

    def forward(self, x):
        return self.fc(self.features(x))


def pretrain():
    torch.manual_seed(0)
    net = CNN(4)
    opt = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(3):
        for x, y in DataLoader(Shapes([0, 1, 2, 3], 800, 1), 50, shuffle=True):
            opt.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            opt.step()
    return net


model = pretrain()
for p in model.features.parameters():
    p.requires_grad = False
model.fc = nn.Linear(128, 3)
optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05, momentum=0.9)
train_loader = DataLoader(Shapes([1, 3, 4], 900, 2), batch_size=32, shuffle=True)
test_loader = DataLoader(Shapes([1, 3, 4], 300, 3), batch_size=100)
criterion = nn.CrossEntropyLoss()
