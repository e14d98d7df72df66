import copy
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def regimes(n):
    """Four regimes of the market, each with a price law of its own."""
    x = torch.randn(n, 8)
    which = (x[:, 0] > 0).long() * 2 + (x[:, 1] > 0).long()
    w = torch.randn(4, 6, generator=torch.Generator().manual_seed(4))
    y = (x[:, 2:] * w[which]).sum(1) / 2.4
    return TensorDataset(x, y + 0.05 * torch.randn(n))


class Expert(nn.Module):
    def __init__(self, dim, hidden):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, 1)

    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x))).squeeze(-1)


class SoftMoE(nn.Module):
    def __init__(self, dim=8, hidden=4, n_experts=12, router_hidden=32):
        super().__init__()
        expert = Expert(dim, hidden)
        self.experts = nn.ModuleList(copy.deepcopy(expert) for _ in range(n_experts))
        self.router = nn.Sequential(nn.Linear(dim, router_hidden), nn.ReLU(), nn.Linear(router_hidden, n_experts))
        nn.init.zeros_(self.router[-1].weight)
        nn.init.zeros_(self.router[-1].bias)

    def forward(self, x):
        gate = torch.softmax(self.router(x), -1)
        out = torch.stack([e(x) for e in self.experts], -1)
        return (gate * out).sum(-1), gate


def training_step(model, batch):
    x, y = batch
    pred, gate = model(x)
    load = gate.mean(0)
    balance = load.numel() * (load * load).sum() - 1
    return nn.functional.mse_loss(pred, y) + 0.01 * balance


train_loader = DataLoader(regimes(6000), batch_size=128, shuffle=True)
test_loader = DataLoader(regimes(1000), batch_size=250)
model = SoftMoE()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
