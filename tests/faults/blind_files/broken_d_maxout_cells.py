"""Maxout classifier of four interleaved cell types."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(58)


def make(n):
    x = torch.randn(n, 6)
    y = 2 * (x[:, 0] * x[:, 1] > 0).long() + (x[:, 2] > 0.4 * x[:, 3] ** 2 - 0.3).long()
    return TensorDataset(x, y)


class Maxout(nn.Module):
    def __init__(self, n_in, n_out, pieces=3):
        super().__init__()
        self.n_out, self.pieces = n_out, pieces
        self.lin = nn.Linear(n_in, n_out * pieces)
        nn.init.constant_(self.lin.weight, 1 / n_in)
        nn.init.zeros_(self.lin.bias)

    def forward(self, x):
        return self.lin(x).view(-1, self.n_out, self.pieces).amax(-1)


model = nn.Sequential(Maxout(6, 48), Maxout(48, 48), nn.Linear(48, 4))
train_loader = DataLoader(make(4000), batch_size=64, shuffle=True)
test_loader = DataLoader(make(500), batch_size=250)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adamax(model.parameters(), lr=5e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(5):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
