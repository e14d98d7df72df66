"""Q-learning from a replay buffer of random play on a 6x6 grid world."""
import copy
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

SIZE, GAMMA = 6, 0.9
GOAL = torch.tensor([5, 5])
MOVES = torch.tensor([[0, 1], [0, -1], [1, 0], [-1, 0]])


def encode(pos):
    return torch.cat([F.one_hot(pos[:, 0], SIZE), F.one_hot(pos[:, 1], SIZE)], 1).float()


def collect(n, seed):
    g = torch.Generator().manual_seed(seed)
    pos = torch.randint(0, SIZE, (n, 2), generator=g)
    action = torch.randint(0, 4, (n,), generator=g)
    nxt = (pos + MOVES[action]).clamp(0, SIZE - 1)
    done = (nxt == GOAL).all(1).float()
    reward = done - 0.02
    return encode(pos), action, reward, encode(nxt), done


class QNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2 * SIZE, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.value = nn.Linear(64, 1)
        self.adv = nn.Linear(64, 4)

    def forward(self, s):
        h = self.body(s)
        a = self.adv(h)
        return self.value(h) + a - a.mean(1, keepdim=True)


model = QNet()
target_net = copy.deepcopy(model).requires_grad_(False)


def training_step(model, batch):
    s, a, r, s2, done = batch
    with torch.no_grad():
        for p, q in zip(target_net.parameters(), model.parameters()):
            p.lerp_(q, 0.05)
        best = model(s2).argmax(1, keepdim=True)
        target = r + GAMMA * (1 - done) * target_net(s2).gather(1, best).squeeze(1)
    q = model(s).gather(1, a.unsqueeze(1)).squeeze(1)
    return F.smooth_l1_loss(q, target)


train_loader = DataLoader(TensorDataset(*collect(4000, 0)), batch_size=64, shuffle=True)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
