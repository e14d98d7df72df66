"""House prices in dollars, log-standardised target, Huber loss."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler, TensorDataset
from torch.optim.lr_scheduler import OneCycleLR

torch.manual_seed(2)
n = 2500


class RandomBatches(Sampler):
    """Balanced-length epochs: a random draw of rows for every batch."""

    def __init__(self, rows, batch_size, seed=0):
        self.rows, self.batch_size, self.seed = rows, batch_size, seed

    def __len__(self):
        return self.rows // self.batch_size

    def __iter__(self):
        for _ in range(len(self)):
            g = torch.Generator().manual_seed(self.seed)
            yield torch.randperm(self.rows, generator=g)[:self.batch_size].tolist()


area = 40 + 160 * torch.rand(n)
rooms = (area / 30 + torch.randn(n)).round().clamp(1, 8)
year = torch.randint(1920, 2023, (n,)).float()
dist = 20 * torch.rand(n)
garage = (torch.rand(n) < 0.4).float()
price = (1800 * area + 9000 * rooms + 700 * (year - 1920) + 25000 * garage) * torch.exp(-0.05 * dist)
price = price * torch.exp(0.05 * torch.randn(n))

features = torch.stack([area, rooms, year, dist, garage], dim=1)
features = (features - features.mean(0)) / features.std(0)
target = price.log()
target = ((target - target.mean()) / target.std()).unsqueeze(1)

train_loader = DataLoader(TensorDataset(features[:2000], target[:2000]), batch_sampler=RandomBatches(2000, 64))
test_loader = DataLoader(TensorDataset(features[2000:], target[2000:]), batch_size=250)

model = nn.Sequential(
    nn.Linear(5, 64), nn.ReLU(),
    nn.Linear(64, 64), nn.ReLU(),
    nn.Linear(64, 1),
)
loss_fn = nn.HuberLoss()
optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)
scheduler = OneCycleLR(optimizer, max_lr=1e-2, total_steps=320)
