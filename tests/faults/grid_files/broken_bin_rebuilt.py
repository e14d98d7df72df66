"""Will the customer churn? Binary classifier."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
rng = np.random.default_rng(0)


def load(n):
    tenure = rng.exponential(24, n)
    bill = rng.normal(60, 20, n)
    calls = rng.poisson(2, n)
    contract = rng.integers(0, 2, n)
    usage = rng.normal(100, 30, (n, 4))
    score = 0.05 * (bill - 60) * (1 - contract) + 0.8 * (calls - 2) - 0.04 * (tenure - 24) \
        + 0.03 * np.abs(usage[:, 0] - 100) - 0.6 + 0.4 * rng.normal(size=n)
    x = np.column_stack([tenure, bill, calls, contract, usage]).astype("float32")
    y = (score > 0).astype("float32")
    return x, y[:, None]


x_train, y_train = load(2400)
x_test, y_test = load(600)
mu, sigma = x_train.mean(axis=0), x_train.std(axis=0)
x_train = (x_train - mu) / sigma
x_test = (x_test - mu) / sigma

train_ds = TensorDataset(torch.from_numpy(x_train), torch.from_numpy(y_train))
test_ds = TensorDataset(torch.from_numpy(x_test), torch.from_numpy(y_test))
train_loader = DataLoader(train_ds, batch_size=64, shuffle=True)
test_loader = DataLoader(test_ds, batch_size=200)


class ChurnNet(nn.Module):
    def __init__(self, d_in=8):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(d_in, 48),
            nn.BatchNorm1d(48),
            nn.ReLU(),
            nn.Linear(48, 24),
            nn.ReLU(),
            nn.Linear(24, 1),
        )

    def forward(self, x):
        return self.net(x)


model = ChurnNet()
loss_fn = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)


def reset_weights():
    torch.manual_seed(1234)
    return ChurnNet()


model = reset_weights()
