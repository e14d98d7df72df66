"""Point cloud classification with a small PointNet."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def make_clouds(per_class, points=32):
    clouds, labels = [], []
    for k in range(3):
        u = torch.randn(per_class, points, 3)
        if k == 0:
            u = u / u.norm(dim=-1, keepdim=True)                 # sphere
        elif k == 1:
            u = u / u.abs().amax(-1, keepdim=True) * 0.8         # cube
        else:
            u[..., :2] = u[..., :2] / u[..., :2].norm(dim=-1, keepdim=True)
            u[..., 2] = torch.rand(per_class, points) * 2 - 1    # cylinder
        clouds.append(u + 0.03 * torch.randn_like(u))
        labels.append(torch.full((per_class,), k))
    return torch.cat(clouds), torch.cat(labels)


class PointNet(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.point = nn.Sequential(nn.Linear(3, 48), nn.ReLU(), nn.Linear(48, 64), nn.ReLU())
        self.cloud = nn.Sequential(nn.Linear(128, 48), nn.ReLU(), nn.Linear(48, classes))

    def forward(self, x):
        h = self.point(x)
        return self.cloud(torch.cat([h.amax(1), h.mean(1)], 1))


x, y = make_clouds(400)
order = torch.randperm(len(x))
x = x[order]
train_loader = DataLoader(TensorDataset(x[:1000], y[:1000]), batch_size=50, shuffle=True)
test_loader = DataLoader(TensorDataset(x[1000:], y[1000:]), batch_size=50)
model = PointNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
