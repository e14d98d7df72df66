"""Node labelling with a deep graph network."""
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
NODES, CLASSES = 14, 3


def make_graphs(n):
    a = torch.triu((torch.rand(n, NODES, NODES) < 0.3).float(), 1)
    a = a + a.transpose(1, 2) + torch.eye(NODES)
    a = a / a.sum(-1, keepdim=True)
    y = torch.randint(0, CLASSES, (n, NODES))
    x = F.one_hot(y, CLASSES).float() + 0.4 * torch.randn(n, NODES, CLASSES)
    return torch.cat([x, a], -1), y


class DeepGCN(nn.Module):
    def __init__(self, hidden=32, depth=10):
        super().__init__()
        self.embed = nn.Linear(CLASSES, hidden)
        self.convs = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(depth))
        for c in self.convs:
            nn.init.kaiming_normal_(c.weight, nonlinearity="relu")
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, CLASSES)

    def forward(self, batch):
        x, adj = batch[..., :CLASSES], batch[..., CLASSES:]
        h = self.embed(x)
        for conv in self.convs:
            h = F.relu(conv(adj @ h))
        return self.head(self.norm(h)).transpose(1, 2)


train_loader = DataLoader(TensorDataset(*make_graphs(1500)), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset(*make_graphs(200)), batch_size=50)
model = DeepGCN()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
