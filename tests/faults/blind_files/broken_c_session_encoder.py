import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
N_ITEMS, LEN = 60, 12


def sessions(n):
    """Clicks drawn around a hidden interest; the label says whether the session buys."""
    interest = torch.randint(0, 6, (n, 1))
    items = interest * 10 + torch.randint(0, 10, (n, LEN))
    items = torch.where(torch.rand(n, LEN) < 0.3, torch.randint(0, N_ITEMS, (n, LEN)), items)
    buys = (interest.squeeze(1) % 2 == 0) ^ (torch.rand(n) < 0.05)
    return TensorDataset(items, buys.float())


class SessionEncoder(nn.Module):
    def __init__(self, dim=32, layers=2, heads=4):
        super().__init__()
        self.items = nn.Embedding(N_ITEMS, dim)
        self.pos = nn.Parameter(torch.randn(1, LEN, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(dim, heads, dim_feedforward=64, dropout=0.0, activation="gelu")
        self.blocks = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)

    def forward(self, items):
        return self.blocks(self.items(items) + self.pos)


class PurchaseModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = SessionEncoder()
        self.head = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, items):
        return self.head(self.encoder(items)[:, -1]).squeeze(-1)


train_loader = DataLoader(sessions(3000), batch_size=64, shuffle=True)
test_loader = DataLoader(sessions(500), batch_size=100)
model = PurchaseModel()
loss_fn = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
