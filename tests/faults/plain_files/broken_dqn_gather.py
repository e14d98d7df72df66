"""DQN on a noisy corridor, offline replay."""
import copy
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
LENGTH, GAMMA = 8, 0.9


def replay(n):
    pos = torch.randint(0, LENGTH, (n,))
    act = torch.randint(0, 2, (n,))
    nxt = (pos + 2 * act - 1).clamp(0, LENGTH - 1)
    reward = (nxt == LENGTH - 1).float() - 0.5 * (nxt == 0).float()
    done = ((nxt == LENGTH - 1) | (nxt == 0)).float()
    eye = torch.eye(LENGTH)
    return eye[pos] + 0.05 * torch.randn(n, LENGTH), act, reward, eye[nxt], done


class QNetwork(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(LENGTH, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, state):
        return self.layers(state)


policy_net = QNetwork()
target_net = copy.deepcopy(policy_net)
updates = 0


def training_step(model, batch):
    global updates
    state, action, reward, next_state, done = batch
    q = model(state).gather(1, action.unsqueeze(1))
    with torch.no_grad():
        next_q = target_net(next_state).max(1).values
        target = reward + GAMMA * next_q * (1 - done)
    updates += 1
    if updates % 10 == 0:
        target_net.load_state_dict(model.state_dict())
    return ((q - target) ** 2).mean()


def evaluate(model):
    with torch.no_grad():
        return (model(torch.eye(LENGTH)[1:-1]).argmax(1) == 1).float().mean().item()


model = policy_net
train_loader = DataLoader(TensorDataset(*replay(4000)), batch_size=64, shuffle=True)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
