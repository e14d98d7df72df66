"""House prices in dollars, log-standardised target, Huber loss."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torch.optim.lr_scheduler import OneCycleLR

torch.manual_seed(2)
n = 2500
area = 40 + 160 * torch.rand(n)
rooms = (area / 30 + torch.randn(n)).round().clamp(1, 8)
year = torch.randint(1920, 2023, (n,)).float()
dist = 20 * torch.rand(n)
garage = (torch.rand(n) < 0.4).float()
price = (1800 * area + 9000 * rooms + 700 * (year - 1920) + 25000 * garage) * torch.exp(-0.05 * dist)
price = price * torch.exp(0.05 * torch.randn(n))

features = torch.stack([area, rooms, year, dist, garage], dim=1)
features = (features - features.mean(0)) / features.std(0)
target = price.unsqueeze(1)

train_loader = DataLoader(TensorDataset(features[:2000], target[:2000]), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(features[2000:], target[2000:]), batch_size=250)

model = nn.Sequential(
    nn.Linear(5, 64), nn.ReLU(),
    nn.Linear(64, 64), nn.ReLU(),
    nn.Linear(64, 1),
)
loss_fn = nn.HuberLoss()
optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)
scheduler = OneCycleLR(optimizer, max_lr=1e-2, total_steps=320)
