"""Graph classification with dense GCN layers."""
import math
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def make_graphs(n, seed, nodes=12):
    rng = np.random.default_rng(seed)
    feats, adjs, labels = [], [], rng.integers(0, 3, n)
    for k in labels:
        a = np.zeros((nodes, nodes))
        if k == 0:                                   # ring
            for i in range(nodes):
                a[i, (i + 1) % nodes] = 1
        elif k == 1:                                 # star
            a[0, 1:] = 1
        else:                                        # two cliques
            a[: nodes // 2, : nodes // 2] = 1
            a[nodes // 2:, nodes // 2:] = 1
        a = np.triu(np.logical_xor(a, rng.random(a.shape) < 0.08), 1)
        a = a + a.T + np.eye(nodes)
        d = a.sum(1)
        adjs.append(a / np.sqrt(np.outer(d, d)))
        feats.append(np.stack([(d - 4) / 3, rng.normal(size=nodes), np.ones(nodes)], 1))
    return (torch.tensor(np.array(feats), dtype=torch.float32),
            torch.tensor(np.array(adjs), dtype=torch.float32), torch.tensor(labels))


class GraphConv(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))
        bound = math.sqrt(6.0 / (n_in + n_out))
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x, adj):
        return adj @ (x @ self.weight) + self.bias


class GCN(nn.Module):
    def __init__(self, hidden=32, classes=3):
        super().__init__()
        self.conv1 = GraphConv(3, hidden)
        self.conv2 = GraphConv(hidden, hidden)
        self.readout = nn.Linear(2 * hidden, classes)

    def forward(self, x, adj):
        h = F.relu(self.conv1(x, adj))
        h = F.relu(self.conv2(h, adj))
        return self.readout(torch.cat([h.mean(1), h.max(1).values], -1))


def training_step(model, batch):
    x, adj, y = batch
    return F.cross_entropy(model(x, adj), y)


train_loader = DataLoader(TensorDataset(*make_graphs(900, 0)), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset(*make_graphs(200, 1)), batch_size=50)
model = GCN()
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
