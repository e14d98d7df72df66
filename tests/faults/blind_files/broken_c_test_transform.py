import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as T


class Leaves(Dataset):
    """RGB uint8 pictures: the class is the hue of the veins and their direction."""

    def __init__(self, n, seed, transform):
        g = torch.Generator().manual_seed(seed)
        self.y = torch.randint(0, 6, (n,), generator=g)
        img = 140 + 30 * torch.randn(n, 3, 16, 16, generator=g)
        for i, y in enumerate(self.y.tolist()):
            k = int(torch.randint(0, 4, (1,), generator=g))
            if y >= 3:
                img[i, y % 3, k::4] += 35
            else:
                img[i, y % 3, :, k::4] += 35
        self.img, self.transform = img.clamp(0, 255).to(torch.uint8), transform

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.transform(self.img[i]), self.y[i]


MEAN, STD = (0.56, 0.56, 0.56), (0.13, 0.13, 0.13)
train_transform = T.Compose([
    T.ConvertImageDtype(torch.float32), T.RandomHorizontalFlip(), T.RandomCrop(16, padding=1, padding_mode="reflect"),
    T.Normalize(MEAN, STD)])
test_transform = T.Compose([T.ConvertImageDtype(torch.float32), T.CenterCrop(16)])


class LeafNet(nn.Module):
    def __init__(self, w=24):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, w, 3, padding=1), nn.ReLU(), nn.Conv2d(w, w, 3, padding=1), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(16 * w, 64), nn.ReLU(), nn.Linear(64, 6))

    def forward(self, x):
        return self.head(self.pool(self.stem(x)))


torch.manual_seed(0)
train_loader = DataLoader(Leaves(1500, 0, train_transform), batch_size=50, shuffle=True)
test_loader = DataLoader(Leaves(400, 1, test_transform), batch_size=100)
model = LeafNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=1.5e-3, weight_decay=1e-3)
