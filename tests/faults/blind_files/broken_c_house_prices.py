import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split


class Houses(Dataset):
    """Area, rooms, age, distance, district -> sale price in dollars."""

    def __init__(self, n=3000, seed=5):
        g = torch.Generator().manual_seed(seed)
        area = 60 + 90 * torch.rand(n, generator=g)
        rooms = (area / 28 + torch.randn(n, generator=g)).round().clamp(1)
        age = 80 * torch.rand(n, generator=g)
        dist = 25 * torch.rand(n, generator=g)
        district = torch.randint(0, 8, (n,), generator=g)
        price = 2200 * area + 9000 * rooms - 700 * age - 3500 * dist + 12000 * district
        price = price + 8000 * torch.randn(n, generator=g)
        feats = torch.stack([area, rooms, age, dist], 1)
        self.feats = (feats - feats.mean(0)) / feats.std(0)
        self.district, self.price = district, price

    def __len__(self):
        return len(self.price)

    def __getitem__(self, i):
        return self.feats[i], self.district[i], self.price[i]


class PriceNet(nn.Module):
    def __init__(self, hidden=96):
        super().__init__()
        self.district = nn.Embedding(8, 6)
        self.mlp = nn.Sequential(
            nn.Linear(10, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, feats, district):
        return self.mlp(torch.cat([feats, self.district(district)], 1)).squeeze(1)


def training_step(model, batch):
    feats, district, price = batch
    return nn.functional.l1_loss(model(feats, district), price)


torch.manual_seed(0)
train_set, test_set = random_split(Houses(), [2500, 500])
train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
test_loader = DataLoader(test_set, batch_size=250)
model = PriceNet()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
