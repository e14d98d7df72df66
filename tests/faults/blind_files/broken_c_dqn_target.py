import copy
import random
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

GAMMA = 0.5


class ReplayMemory(Dataset):
    """Transitions of a point on a line that is paid for standing near a goal."""

    def __init__(self, n, seed=0):
        rng = random.Random(seed)
        self.buf = []
        for _ in range(n):
            s, goal, a = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.randrange(3)
            s2 = max(-1.0, min(1.0, s + (a - 1) * 0.4))
            self.buf.append(((s, goal), a, 1.0 - 2.0 * abs(s2 - goal), (s2, goal), float(rng.random() < 0.1)))

    def __len__(self):
        return len(self.buf)

    def __getitem__(self, i):
        s, a, r, s2, done = self.buf[i]
        return torch.tensor(s), torch.tensor([a]), torch.tensor(r), torch.tensor(s2), torch.tensor(done)


class QNet(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.value, self.adv = nn.Linear(hidden, 1), nn.Linear(hidden, 3)

    def forward(self, s):
        h = self.body(s)
        a = self.adv(h)
        return self.value(h) + a - a.mean(1, keepdim=True)


def training_step(model, batch):
    s, a, r, s2, done = batch
    q = model(s).gather(1, a)
    with torch.no_grad():
        best = model(s2).argmax(1, keepdim=True)
        next_q = target_net(s2).gather(1, best).squeeze(1)
        target = r + GAMMA * next_q * (1 - done)
    return F.smooth_l1_loss(q, target)


torch.manual_seed(0)
train_loader = DataLoader(ReplayMemory(4000), batch_size=64, shuffle=True)
model = QNet()
target_net = copy.deepcopy(model).requires_grad_(False)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
