import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(2)
N, FEAT, C = 24, 8, 3
centers = torch.randn(C, FEAT) * 0.6


def block_graphs(n, p_in=0.6, p_out=0.15):
    """Stochastic block model graphs; node label = community."""
    y = torch.randint(0, C, (n, N))
    same = (y.unsqueeze(1) == y.unsqueeze(2)).float()
    prob = same * p_in + (1 - same) * p_out
    upper = torch.triu((torch.rand(n, N, N) < prob).float(), diagonal=1)
    adj = upper + upper.transpose(1, 2)
    x = centers[y] + torch.randn(n, N, FEAT)
    return TensorDataset(x, adj, y)


def normalize(adj):
    adj = adj + torch.eye(adj.size(-1))
    d = adj.sum(-1).pow(-0.5)
    return d.unsqueeze(-1) * adj * d.unsqueeze(-2)


class GraphConv(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.lin = nn.Linear(i, o)
        self.norm = nn.LayerNorm(o)

    def forward(self, x, a):
        return F.relu(self.norm(a @ self.lin(x)))


class GCN(nn.Module):
    def __init__(self, hidden=32, layers=20):
        super().__init__()
        dims = [FEAT] + [hidden] * layers
        self.convs = nn.ModuleList(GraphConv(a, b) for a, b in zip(dims, dims[1:]))
        self.readout = nn.Linear(hidden, C)

    def forward(self, x, adj):
        a = normalize(adj)
        for conv in self.convs:
            x = conv(x, a)
        return self.readout(x)


model = GCN()
train_loader = DataLoader(block_graphs(400), batch_size=16, shuffle=True)
test_loader = DataLoader(block_graphs(80), batch_size=16)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)


def training_step(model, batch):
    x, adj, y = batch
    logits = model(x, adj)
    return F.cross_entropy(logits.flatten(0, 1), y.flatten())
