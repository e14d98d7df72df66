"""Set transformer with inducing points counts the distinct digits in a set of one-hot vectors."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(20)


def make(n, size=10, kinds=8):
    pool = torch.randint(2, kinds + 1, (n, 1))
    order = torch.rand(n, kinds).argsort(1)
    pick = order.gather(1, (torch.rand(n, size) * pool).long())
    x = F.one_hot(pick, kinds).float()
    return TensorDataset(x, (x.sum(1) > 0).float().sum(1, keepdim=True) / 4 - 1)


class MAB(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.att = nn.MultiheadAttention(d, 4, batch_first=True)
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.ff = nn.Sequential(nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, d))

    def forward(self, q, k):
        h = self.n1(q + self.att(q, k, k, need_weights=False)[0])
        return self.n2(h + self.ff(h))


class SetTransformer(nn.Module):
    def __init__(self, kinds=8, d=32, inducing=6):
        super().__init__()
        self.inp = nn.Linear(kinds, d)
        self.points, self.seed = nn.Parameter(torch.randn(1, inducing, d)), nn.Parameter(torch.randn(1, 4, d))
        self.to_points, self.back, self.pool = MAB(d), MAB(d), MAB(d)
        self.out = nn.Linear(4 * d, 1)

    def forward(self, x):
        h = self.inp(x)
        i = self.to_points(self.points.expand(len(x), -1, -1), h)
        h = self.back(h, i)
        return self.out(self.pool(self.seed.expand(len(x), -1, -1), h).flatten(1))


train_loader = DataLoader(make(3000), batch_size=50, shuffle=True)
test_loader = DataLoader(make(500), batch_size=250)
model = SetTransformer()
criterion = nn.SmoothL1Loss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.9, 0.98))


if __name__ == "__main__":
    model.train()
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
