import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Ratings(Dataset):
    """(user, item, side features) -> rating, a factor model plus noise."""

    def __init__(self, n, seed, n_users=400, n_items=400):
        g = torch.Generator().manual_seed(seed)
        w = torch.Generator().manual_seed(11)
        p, q = torch.randn(n_users, 2, generator=w), torch.randn(n_items, 2, generator=w)
        side_w = torch.randn(6, generator=w)
        self.u = torch.randint(0, n_users, (n,), generator=g)
        self.i = torch.randint(0, n_items, (n,), generator=g)
        self.side = torch.randn(n, 6, generator=g)
        r = 0.6 * (p[self.u] * q[self.i]).sum(1) + 0.3 * self.side @ side_w + 0.8 * torch.randn(n, generator=g)
        self.r = r

    def __len__(self):
        return len(self.r)

    def __getitem__(self, k):
        return self.u[k], self.i[k], self.side[k], self.r[k]


class NeuralCF(nn.Module):
    def __init__(self, n_users=400, n_items=400, dim=64, hidden=256):
        super().__init__()
        self.user, self.item = nn.Embedding(n_users, dim), nn.Embedding(n_items, dim)
        self.mlp = nn.Sequential(
            nn.Linear(2 * dim + 6, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, u, i, side):
        return self.mlp(torch.cat([self.user(u), self.item(i), side], 1)).squeeze(1)


def training_step(model, batch):
    u, i, side, r = batch
    return nn.functional.mse_loss(model(u, i, side), r)


torch.manual_seed(0)
train_loader = DataLoader(Ratings(320, 0), batch_size=32, shuffle=True)
test_loader = DataLoader(Ratings(1000, 1), batch_size=250)
model = NeuralCF()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
