import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Molecules(Dataset):
    """Dense little graphs: atom types, adjacency, and a property of the graph."""

    def __init__(self, n, seed, nodes=24, kinds=5):
        g = torch.Generator().manual_seed(seed)
        self.kind = torch.randint(0, kinds, (n, nodes), generator=g)
        a = (torch.rand(n, nodes, nodes, generator=g) < 0.4).float().triu(1)
        self.adj = a + a.transpose(1, 2)
        charge = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0])[self.kind]
        pair = (charge[:, :, None] * charge[:, None, :] * self.adj).sum((1, 2)) / 20
        y = charge.sum(1) / 4 + pair
        self.y = (y - y.mean()) / y.std()

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.kind[i], self.adj[i], self.y[i]


class GINLayer(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1))
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))

    def forward(self, h, adj):
        message = adj @ h
        return h + torch.relu(self.mlp((1 + self.eps) * h + message))


class GIN(nn.Module):
    def __init__(self, kinds=5, dim=48, depth=12):
        super().__init__()
        self.emb = nn.Embedding(kinds, dim)
        self.layers = nn.ModuleList(GINLayer(dim) for _ in range(depth))
        self.readout = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, 1))

    def forward(self, kind, adj):
        h = self.emb(kind)
        for layer in self.layers:
            h = layer(h, adj)
        return self.readout(h.mean(1)).squeeze(1)


def training_step(model, batch):
    kind, adj, y = batch
    return nn.functional.mse_loss(model(kind, adj), y)


torch.manual_seed(0)
train_loader = DataLoader(Molecules(2000, 0), batch_size=64, shuffle=True)
test_loader = DataLoader(Molecules(400, 1), batch_size=100)
model = GIN()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
