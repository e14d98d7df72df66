import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(3)
TASKS = {"age": 1, "gender": 2, "income": 5}


def synth(n):
    x = torch.randn(n, 16)
    u = torch.tanh(x @ A)
    age = u[:, :4].sum(1) + 0.1 * torch.randn(n)
    gender = (u[:, 4:8].sum(1) > 0).long()
    income = torch.bucketize(u[:, 8:].sum(1), torch.tensor([-2.0, -0.7, 0.7, 2.0]))
    return TensorDataset(x, age, gender, income)


class TaskHead(nn.Module):
    def __init__(self, dim, out):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.proj = nn.Linear(dim, out)

    def forward(self, h):
        return self.proj(self.norm(h))


class MultiTaskNet(nn.Module):
    def __init__(self, tasks, dim=64):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(16, dim), nn.GELU(), nn.Linear(dim, dim), nn.GELU())
        self.heads = {name: TaskHead(dim, out) for name, out in tasks.items()}
        self.log_vars = nn.Parameter(torch.zeros(len(tasks)))

    def forward(self, x):
        h = self.trunk(x)
        return {name: head(h) for name, head in self.heads.items()}


def training_step(model, batch):
    x, age, gender, income = batch
    out = model(x)
    losses = torch.stack([
        F.mse_loss(out["age"].squeeze(-1), age),
        F.cross_entropy(out["gender"], gender),
        F.cross_entropy(out["income"], income),
    ])
    return (torch.exp(-model.log_vars) * losses + model.log_vars).sum()


A = torch.randn(16, 12) / 4
train_loader = DataLoader(synth(3000), batch_size=64, shuffle=True)
test_loader = DataLoader(synth(600), batch_size=200)
model = MultiTaskNet(TASKS)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
