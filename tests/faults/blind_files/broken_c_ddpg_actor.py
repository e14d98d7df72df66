import math
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def expert_demos(n):
    """States of a cart and the torques of a controller, for behaviour cloning."""
    s = torch.randn(n, 8)
    k = torch.randn(8, 2, generator=torch.Generator().manual_seed(6)) / 3
    a = torch.tanh(s @ k + 0.4 * torch.sin(2 * s[:, :2]))
    return TensorDataset(s, a)


def hidden_init(layer):
    fan_in = layer.weight.size(1)
    lim = math.sqrt(fan_in)
    return -lim, lim


class Actor(nn.Module):
    def __init__(self, n_state=8, n_action=2, fc1=128, fc2=96):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(n_state, fc1), nn.Linear(fc1, fc2), nn.Linear(fc2, n_action)
        self.reset_parameters()

    def reset_parameters(self):
        self.fc1.weight.data.uniform_(*hidden_init(self.fc1))
        self.fc2.weight.data.uniform_(*hidden_init(self.fc2))
        self.fc3.weight.data.uniform_(-3e-3, 3e-3)

    def forward(self, state):
        h = torch.tanh(self.fc1(state))
        h = torch.tanh(self.fc2(h))
        return torch.tanh(self.fc3(h))


train_loader = DataLoader(expert_demos(4000), batch_size=64, shuffle=True)
test_loader = DataLoader(expert_demos(1000), batch_size=250)
model = Actor()
loss_fn = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
