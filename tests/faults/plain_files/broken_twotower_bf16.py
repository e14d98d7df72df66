"""Two-tower retrieval, in-batch negatives."""
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(8)
N_ITEMS, D_U = 400, 20
taste_of_item = F.normalize(torch.randn(N_ITEMS, 6), dim=1)
A = torch.randn(6, D_U)
M = 6000
item = torch.randint(0, N_ITEMS, (M,))
user = taste_of_item[item] @ A + 0.3 * torch.randn(M, D_U)
B = torch.randn(6, 12)
item_feats = taste_of_item @ B + 0.05 * torch.randn(N_ITEMS, 12)


class Tower(nn.Module):
    def __init__(self, d_in, d=32):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(d_in, 64), nn.ReLU(), nn.Linear(64, d))

    def forward(self, x):
        return F.normalize(self.net(x), dim=-1)


class TwoTower(nn.Module):
    def __init__(self):
        super().__init__()
        self.user_tower = Tower(D_U)
        self.item_tower = Tower(12)
        self.log_temp = nn.Parameter(torch.tensor(2.0))

    def forward(self, users, items):
        u, v = self.user_tower(users.bfloat16()), self.item_tower(items.bfloat16())
        return (u @ v.T * self.log_temp.exp()).float()


train_loader = DataLoader(TensorDataset(user[:5500], item_feats[item[:5500]]), batch_size=64, shuffle=True, drop_last=True)
test_loader = DataLoader(TensorDataset(user[5500:], item_feats[item[5500:]]), batch_size=64, drop_last=True)
model = TwoTower().to(torch.bfloat16)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)


def training_step(model, batch):
    scores = model(*batch)
    labels = torch.arange(len(scores))
    return 0.5 * (F.cross_entropy(scores, labels) + F.cross_entropy(scores.T, labels))
