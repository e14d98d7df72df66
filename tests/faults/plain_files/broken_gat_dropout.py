"""Graph attention network with dropout on the readout."""
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


class GATLayer(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        self.lin = nn.Linear(n_in, n_out, bias=False)
        self.src = nn.Linear(n_out, 1, bias=False)
        self.dst = nn.Linear(n_out, 1, bias=False)

    def forward(self, x, adj):
        h = self.lin(x)
        score = F.leaky_relu(self.src(h) + self.dst(h).transpose(1, 2), 0.2)
        attn = score.masked_fill(adj == 0, -1e9).softmax(-1)
        return attn @ h


class GAT(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.g1, self.g2 = GATLayer(3, hidden), GATLayer(hidden, hidden)
        self.head = nn.Linear(2 * hidden, 3)

    def forward(self, graph):
        x, adj = graph[..., :3], graph[..., 3:]
        h = F.elu(self.g1(x, adj))
        h = F.elu(self.g2(h, adj))
        h = F.dropout(torch.cat([h.mean(1), h.amax(1)], -1), 0.5)
        return self.head(h)


def dataset(n, seed):
    x, adj, y = make_graphs(n, seed)
    return TensorDataset(torch.cat([x, adj], -1), y)


train_loader = DataLoader(dataset(900, 0), batch_size=32, shuffle=True)
test_loader = DataLoader(dataset(200, 1), batch_size=50)
model = GAT()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
