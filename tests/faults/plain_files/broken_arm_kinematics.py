"""Learn the forward kinematics of a two-joint arm."""
import math
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(2)


class Dense(nn.Module):
    """A fully connected layer with an optional activation, as in Keras."""

    def __init__(self, n_in, n_out, activation=None):
        super().__init__()
        limit = math.sqrt(6 / (n_in + n_out))
        self.kernel = nn.Parameter(torch.empty(n_in, n_out).uniform_(-limit, limit))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.activation = activation

    def forward(self, x):
        x = x @ self.kernel + self.bias
        return self.activation(x) if self.activation is not None else x


class ArmModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden1 = Dense(2, 64)
        self.hidden2 = Dense(64, 64)
        self.position = Dense(64, 2)

    def forward(self, angles):
        return self.position(self.hidden2(self.hidden1(angles)))


def make_poses(n):
    q = (torch.rand(n, 2) * 2 - 1) * 2.5
    x = q[:, 0].cos() + 0.7 * (q[:, 0] + q[:, 1]).cos()
    y = q[:, 0].sin() + 0.7 * (q[:, 0] + q[:, 1]).sin()
    return q / 1.4, torch.stack([x, y], 1)


train_loader = DataLoader(TensorDataset(*make_poses(4000)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*make_poses(500)), batch_size=100)
model = ArmModel()
loss_fn = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
