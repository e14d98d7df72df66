"""Matrix factorisation with biases on a ratings table."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(5)
USERS, ITEMS, K = 150, 80, 3
pu, qi = torch.randn(USERS, K), torch.randn(ITEMS, K)
bu, bi = 0.3 * torch.randn(USERS), 0.3 * torch.randn(ITEMS)
pairs = torch.cartesian_prod(torch.arange(USERS), torch.arange(ITEMS))
pairs = pairs[torch.randperm(len(pairs))[:9000]]
u, i = pairs.T
rating = 3.4 + bu[u] + bi[i] + 0.6 * (pu[u] * qi[i]).sum(1) + 0.1 * torch.randn(len(u))
rating = rating.clamp(1, 5)


class MF(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.user = nn.Embedding(USERS, dim)
        self.item = nn.Embedding(ITEMS, dim)
        self.user_bias = nn.Embedding(USERS, 1)
        self.item_bias = nn.Embedding(ITEMS, 1)
        self.mean = nn.Parameter(torch.tensor(0.0))
        self.reset()

    def reset(self):
        for e in (self.user, self.item):
            nn.init.zeros_(e.weight)
        for b in (self.user_bias, self.item_bias):
            nn.init.zeros_(b.weight)

    def forward(self, u, i):
        dot = (self.user(u) * self.item(i)).sum(-1)
        return self.mean + dot + self.user_bias(u).squeeze(-1) + self.item_bias(i).squeeze(-1)


r = rating - rating[:8000].mean()
train_loader = DataLoader(TensorDataset(u[:8000], i[:8000], r[:8000]), batch_size=256, shuffle=True)
test_loader = DataLoader(TensorDataset(u[8000:], i[8000:], r[8000:]), batch_size=500)
model = MF()
optimizer = torch.optim.Adam(model.parameters(), lr=0.03)


def training_step(model, batch):
    user, item, y = batch
    return nn.functional.mse_loss(model(user, item), y)
