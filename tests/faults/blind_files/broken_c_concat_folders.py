import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, SequentialSampler, Subset


class ClassFolder(Dataset):
    """All images of one class: a fixed pattern shifted and covered with noise."""

    def __init__(self, label, n=150, size=16):
        g = torch.Generator().manual_seed(100 + label)
        proto = torch.randn(1, size, size, generator=g)
        self.images = torch.stack([
            0.5 * proto.roll(tuple(torch.randint(-1, 2, (2,), generator=g).tolist()), (1, 2))
            + 0.8 * torch.randn(1, size, size, generator=g) for _ in range(n)])
        self.label = label

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.images[i], self.label


class SmallCNN(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.fc = nn.Sequential(nn.Flatten(), nn.Linear(32 * 16, 64), nn.ReLU(), nn.Linear(64, n_classes))

    def forward(self, x):
        return self.fc(self.conv(x))


def split(folder, train_fraction=0.8):
    k = int(len(folder) * train_fraction)
    return Subset(folder, range(k)), Subset(folder, range(k, len(folder)))


torch.manual_seed(0)
N_CLASSES = 6
parts = [split(ClassFolder(c)) for c in range(N_CLASSES)]
train_set = ConcatDataset([p[0] for p in parts])
test_set = ConcatDataset([p[1] for p in parts])
train_loader = DataLoader(train_set, batch_size=24, sampler=SequentialSampler(train_set))
test_loader = DataLoader(test_set, batch_size=60)
model = SmallCNN(N_CLASSES)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
