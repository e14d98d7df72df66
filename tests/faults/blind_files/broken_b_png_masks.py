import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

rng = np.random.default_rng(0)


def fake_png_pair(size=20):
    """uint8 picture and uint8 mask, as PIL would read them"""
    mask = np.zeros((size, size), np.uint8)
    r, c = rng.integers(2, 10, 2)
    h, w = rng.integers(4, 9, 2)
    mask[r:r + h, c:c + w] = 255
    img = np.where(mask > 0, 170, 80) + rng.normal(0, 25, mask.shape)
    return img.clip(0, 255).astype(np.uint8), mask


class Cells(Dataset):
    def __init__(self, n):
        self.pairs = [fake_png_pair() for _ in range(n)]

    def __len__(self):
        return len(self.pairs)

    def to_tensor(self, arr):
        return torch.from_numpy(arr).float().unsqueeze(0)

    def __getitem__(self, idx):
        img, mask = self.pairs[idx]
        x = self.to_tensor(img) / 255.0
        x = (x - 0.45) / 0.2
        y = self.to_tensor(mask)
        return x, y


class Segmenter(nn.Module):
    def __init__(self, ch=12):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, ch, 3, padding=1), nn.ReLU(),
            nn.Conv2d(ch, ch, 3, padding=1), nn.ReLU(),
            nn.Conv2d(ch, ch, 3, padding=1), nn.ReLU())
        self.last = nn.Conv2d(ch, 1, 1)

    def forward(self, x):
        return self.last(self.body(x))


torch.manual_seed(0)
train_loader = DataLoader(Cells(320), batch_size=16, shuffle=True)
test_loader = DataLoader(Cells(64), batch_size=32)
model = Segmenter()
criterion = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

if __name__ == "__main__":
    for ep in range(5):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        print(ep, loss.item())
