"""Semi-supervised node classification on one graph (transductive, full batch)."""
import torch
from torch import nn
import torch.nn.functional as F

g = torch.Generator().manual_seed(3)
N, K = 240, 4
community = torch.arange(N) % K
same = community[:, None] == community[None, :]
prob = torch.where(same, 0.10, 0.01)
adj = torch.triu((torch.rand(N, N, generator=g) < prob).float(), 1)
adj = adj + adj.T + torch.eye(N)
deg = adj.sum(1)
adj_norm = adj / torch.sqrt(deg[:, None] * deg[None, :])

features = torch.randn(N, 16, generator=g)
features[:, :K] += 1.0 * F.one_hot(community, K)

train_mask = torch.rand(N, generator=g) < 0.3
y_train = torch.where(train_mask, community, torch.tensor(-100))
y_test = torch.where(train_mask, torch.tensor(-100), community)


class NodeGCN(nn.Module):
    def __init__(self, n_in, hidden, classes, adj):
        super().__init__()
        self.register_buffer("adj", adj)
        self.lin1 = nn.Linear(n_in, hidden)
        self.lin2 = nn.Linear(hidden, classes)
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        h = F.relu(self.adj @ self.lin1(self.drop(x)))
        return self.adj @ self.lin2(self.drop(h))


model = NodeGCN(16, 32, K, adj_norm)
train_loader = [(features, y_train)]
test_loader = [(features, y_test)]
loss_fn = nn.CrossEntropyLoss(ignore_index=-100)
optimizer = torch.optim.Adam(model.parameters(), lr=0.02, weight_decay=5e-4)
