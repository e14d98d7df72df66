import copy
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(10)
GAMMA, ACTIONS = 0.9, 4
MOVES = torch.tensor([[0.0, 0.1], [0.0, -0.1], [0.1, 0.0], [-0.1, 0.0]])


def replay(n):
    """Logged random walk in a box with a goal in one corner and a pit in the middle."""
    s = torch.rand(n, 2) * 2 - 1
    a = torch.randint(0, ACTIONS, (n,))
    s2 = (s + 3 * MOVES[a] + 0.01 * torch.randn(n, 2)).clamp(-1, 1)
    goal = (s2 - torch.tensor([0.7, 0.7])).norm(dim=1) < 0.35
    pit = s2.norm(dim=1) < 0.35
    progress = (s - 0.7).norm(dim=1) - (s2 - 0.7).norm(dim=1)
    r = 1000.0 * goal.float() - 1000.0 * pit.float() + 2000 * progress
    return TensorDataset(s, a, r, s2, goal.float())


class QNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, ACTIONS))

    def forward(self, s):
        return self.net(s)


model = QNet()
target_net = copy.deepcopy(model).eval()
for p in target_net.parameters():
    p.requires_grad_(False)
train_loader = DataLoader(replay(4000), batch_size=64, shuffle=True)
test_loader = DataLoader(replay(800), batch_size=64)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)


def training_step(model, batch):
    s, a, r, s2, done = batch
    q = model(s).gather(1, a.unsqueeze(1)).squeeze(1)
    with torch.no_grad():
        target = r + GAMMA * (1 - done) * target_net(s2).max(1).values
    return (q - target).pow(2).mean()
