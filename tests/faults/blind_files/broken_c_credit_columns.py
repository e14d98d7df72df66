import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

CATEGORICAL = {"purpose": 6, "housing": 3}
NUMERIC = ["income", "loan_amount", "year_opened", "utilisation", "age"]


class CreditTable(Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        z = torch.randn(n, 5, generator=g)
        num = torch.stack([
            52000 + 18000 * z[:, 0], 9000 + 4000 * z[:, 1], (2009 + 6 * z[:, 2]).round(),
            torch.sigmoid(z[:, 3]), (41 + 12 * z[:, 4]).round()], 1)
        self.cat = torch.stack([torch.randint(0, k, (n,), generator=g) for k in CATEGORICAL.values()], 1)
        score = z[:, 1] - z[:, 0] + 1.5 * z[:, 3] + 0.8 * z[:, 3] * z[:, 4] + 0.5 * (self.cat[:, 0] - 2.5)
        self.y = (score + 0.2 * torch.randn(n, generator=g) > 0).float()
        self.num = num.float()

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.num[i], self.cat[i], self.y[i]


class EntityEmbeddingNet(nn.Module):
    def __init__(self, n_num, cardinalities, hidden=64):
        super().__init__()
        self.embs = nn.ModuleList(nn.Embedding(k, 4) for k in cardinalities)
        self.net = nn.Sequential(
            nn.Linear(n_num + 4 * len(cardinalities), hidden), nn.ReLU(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, num, cat):
        e = [emb(cat[:, j]) for j, emb in enumerate(self.embs)]
        return self.net(torch.cat([num, *e], 1)).squeeze(1)


def training_step(model, batch):
    num, cat, y = batch
    return nn.functional.binary_cross_entropy_with_logits(model(num, cat), y)


torch.manual_seed(0)
train_loader = DataLoader(CreditTable(4000, 0), batch_size=64, shuffle=True)
test_loader = DataLoader(CreditTable(500, 1), batch_size=250)
model = EntityEmbeddingNet(len(NUMERIC), list(CATEGORICAL.values()))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
