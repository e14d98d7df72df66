"""Monte-Carlo policy evaluation: a critic for a cart on a track."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
GAMMA = 0.95


def rollouts(n, steps=60):
    pos, vel = torch.rand(n) * 4 - 2, torch.rand(n) * 2 - 1
    state = torch.stack([pos, vel], 1)
    ret = torch.zeros(n)
    for t in range(steps):
        force = -0.5 * pos - 0.3 * vel + 0.05 * torch.randn(n)
        vel = vel + 0.2 * force
        pos = pos + 0.2 * vel
        reward = 1000.0 - 1000.0 * pos ** 2
        ret = ret + GAMMA ** t * reward * (1 - GAMMA)
    return state, ret


class Critic(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
                                 nn.Linear(width, 1))

    def forward(self, state):
        return self.net(state).squeeze(-1)


def training_step(model, batch):
    state, ret = batch
    value = model(state)
    return 0.5 * (ret - value).pow(2).mean()


train_loader = DataLoader(TensorDataset(*rollouts(4000)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*rollouts(500)), batch_size=100)
model = Critic()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
