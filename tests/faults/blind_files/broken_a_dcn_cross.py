import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(12)
USERS, ITEMS, GENRES, DENSE, E = 60, 40, 6, 3, 8
u_taste = torch.randn(USERS, 3)
i_style = torch.randn(ITEMS, 3)
genre_of = torch.randint(0, GENRES, (ITEMS,))
genre_pop = torch.randn(GENRES)


def impressions(n):
    u, i = torch.randint(0, USERS, (n,)), torch.randint(0, ITEMS, (n,))
    dense = torch.randn(n, DENSE)
    s = 1.5 * (u_taste[u] * i_style[i]).sum(1) + genre_pop[genre_of[i]] + dense[:, 0] * dense[:, 1]
    click = (torch.rand(n) < torch.sigmoid(s)).float()
    return TensorDataset(torch.stack([u, i, genre_of[i]], 1), dense, click)


class Cross(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.w = nn.Parameter(torch.empty(d))
        self.b = nn.Parameter(torch.zeros(d))
        nn.init.normal_(self.w)

    def forward(self, x0, x):
        return x0 * (x @ self.w).unsqueeze(-1) + self.b + x


class DeepCross(nn.Module):
    def __init__(self, n_cross=5):
        super().__init__()
        self.emb = nn.ModuleList([nn.Embedding(c, E) for c in (USERS, ITEMS, GENRES)])
        for e in self.emb:
            nn.init.normal_(e.weight, std=0.3)
        d = 3 * E + DENSE
        self.cross = nn.ModuleList(Cross(d) for _ in range(n_cross))
        self.deep = nn.Sequential(nn.Linear(d, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.out = nn.Linear(d + 32, 1)

    def forward(self, ids, dense):
        x0 = torch.cat([e(ids[:, k]) for k, e in enumerate(self.emb)] + [dense], 1)
        x = x0
        for layer in self.cross:
            x = layer(x0, x)
        return self.out(torch.cat([x, self.deep(x0)], 1)).squeeze(1)


def training_step(model, batch):
    ids, dense, click = batch
    return F.binary_cross_entropy_with_logits(model(ids, dense), click)


model = DeepCross()
train_loader = DataLoader(impressions(12000), batch_size=128, shuffle=True)
test_loader = DataLoader(impressions(2000), batch_size=200)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, weight_decay=1e-6)
