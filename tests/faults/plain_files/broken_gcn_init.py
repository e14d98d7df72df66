"""Graph classification: GraphSAGE layers with their own parameters."""
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
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


class SageLayer(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.w_self = nn.Parameter(torch.empty(n_in, n_out))
        self.w_neigh = nn.Parameter(torch.empty(n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(n_out))
        self.reset_parameters()

    def reset_parameters(self):
        for w in (self.w_self, self.w_neigh):
            nn.init.constant_(w, 1.0 / w.shape[0])

    def forward(self, x, adj):
        neigh = adj @ x / adj.sum(-1, keepdim=True)
        return x @ self.w_self + neigh @ self.w_neigh + self.bias


class Sage(nn.Module):
    def __init__(self, hidden=24, classes=3):
        super().__init__()
        self.l1, self.l2 = SageLayer(3, hidden), SageLayer(hidden, hidden)
        self.head = nn.Linear(hidden, classes)

    def forward(self, inputs):
        x, adj = inputs[..., :3], inputs[..., 3:]
        h = F.relu(self.l1(x, adj))
        h = F.relu(self.l2(h, adj))
        return self.head(h.mean(1))


def dataset(n, seed):
    x, adj, y = make_graphs(n, seed)
    return TensorDataset(torch.cat([x, adj], -1), y)


train_loader = DataLoader(dataset(800, 0), batch_size=32, shuffle=True)
test_loader = DataLoader(dataset(200, 1), batch_size=50)
model = Sage()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
