import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(3)
N = 2000
X = torch.randn(N, 12)
tags = torch.stack([
    (X[:, 0] * X[:, 1] > 0).float(),
    (X[:, 2] + X[:, 3].abs() > 0.8).float(),
    (X[:, 4] > X[:, 5]).float(),
], dim=1)
train_loader = DataLoader(TensorDataset(X[:1600], tags[:1600]), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(X[1600:], tags[1600:]), batch_size=200)


class Tower:
    """one small net for each tag"""

    def __init__(self, n_in, n_hidden):
        self.net = nn.Sequential(
            nn.Linear(n_in, n_hidden), nn.ReLU(),
            nn.Linear(n_hidden, n_hidden), nn.ReLU(),
            nn.Linear(n_hidden, 1))

    def __call__(self, h):
        return self.net(h)


class MultiTag(nn.Module):
    def __init__(self, names):
        super().__init__()
        self.shared = nn.Linear(12, 32)
        self.towers = {name: Tower(32, 32) for name in names}

    def forward(self, x):
        h = torch.relu(self.shared(x))
        return torch.cat([self.towers[k](h) for k in self.towers], dim=1)


model = MultiTag(["indoor", "people", "night"])
loss_fn = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

if __name__ == "__main__":
    for epoch in range(20):
        for xb, yb in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
