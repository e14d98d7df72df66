"""Radial basis function network with trainable centres and widths, full batch, Rprop."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(15)
X = torch.rand(600, 2) * 4 - 2
peaks = 3 * (1 - X[:, 0]) ** 2 * torch.exp(-X[:, 0] ** 2 - (X[:, 1] + 1) ** 2)
dips = (2 * X[:, 0] - 10 * X[:, 0] ** 3) * torch.exp(-(X ** 2).sum(1))
y = (peaks + dips).unsqueeze(1)
y = (y - y.mean()) / y.std() + 0.05 * torch.randn(600, 1)


class RBFNet(nn.Module):
    def __init__(self, centres):
        super().__init__()
        self.centres = nn.Parameter(centres.clone())
        self.log_gamma = nn.Parameter(torch.full((len(centres),), 0.7))
        self.out = nn.Linear(len(centres), 1)

    def forward(self, x):
        d2 = torch.cdist(x, self.centres).square()
        return self.out(torch.exp(-self.log_gamma.exp() * d2))


train_loader = DataLoader(TensorDataset(X, y), batch_size=600)
model = RBFNet(X[torch.randperm(600)[:40]])
loss_fn = nn.MSELoss()
optimizer = torch.optim.Rprop(model.parameters(), lr=1e-3, step_sizes=(1e-6, 0.1))


if __name__ == "__main__":
    model.train()
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
