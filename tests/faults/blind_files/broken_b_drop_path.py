import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(31)


class NoisyBlock(nn.Module):
    """pre-norm residual block with dropout"""

    def __init__(self, dim, p):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 2 * dim)
        self.down = nn.Linear(2 * dim, dim)
        self.p = p

    def forward(self, x):
        h = F.gelu(self.up(self.norm(x)))
        h = F.dropout(h, self.p)
        return x + self.down(h)


class TabNet(nn.Module):
    def __init__(self, n_in=10, dim=32, depth=2, classes=3, p=0.5):
        super().__init__()
        self.inp = nn.Linear(n_in, dim)
        self.blocks = nn.Sequential(*[NoisyBlock(dim, p) for _ in range(depth)])
        self.out = nn.Linear(dim, classes)

    def forward(self, x):
        return self.out(self.blocks(self.inp(x)))


def wine(n):
    g = torch.randn(n, 10)
    quality = (g[:, 0] + g[:, 1] * g[:, 2] - 0.5 * g[:, 3])
    return g, torch.bucketize(quality, torch.tensor([-0.6, 0.6]))


train_loader = DataLoader(TensorDataset(*wine(2000)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*wine(500)), batch_size=100)
model = TabNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)


def evaluate():
    model.eval()
    with torch.no_grad():
        hits = sum((model(x).argmax(1) == y).sum().item() for x, y in test_loader)
    model.train()
    return hits / 500


if __name__ == "__main__":
    for epoch in range(15):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss_fn(model(x), y).backward()
            optimizer.step()
        print(epoch, evaluate())
