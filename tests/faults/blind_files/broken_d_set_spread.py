"""Attention over a set of eight measurements predicts their spread (centred range)."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(61)


def make(n, size=8):
    x = torch.randn(n, 1, 1) + torch.randn(n, size, 1) * (0.3 + torch.rand(n, 1, 1))
    spread = (x.amax(1) - x.amin(1)) - 2.3
    return TensorDataset(torch.cat([x, x ** 2 - 1], -1), spread)


class SetBlock(nn.Module):
    def __init__(self, d, heads=4):
        super().__init__()
        self.attn = nn.MultiheadAttention(d, heads)
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.ff = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))

    def forward(self, x):
        h = self.n1(x)
        x = x + self.attn(h, h, h, need_weights=False)[0]
        return x + self.ff(self.n2(x))


class SetNet(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.inp = nn.Linear(2, d)
        self.blocks = nn.Sequential(SetBlock(d), SetBlock(d))
        self.out = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 1))

    def forward(self, x):
        return self.out(self.blocks(self.inp(x)).mean(1))


train_loader = DataLoader(make(3000), batch_size=32, shuffle=True)
test_loader = DataLoader(make(400), batch_size=100)
model = SetNet()
loss_fn = nn.MSELoss()
optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
