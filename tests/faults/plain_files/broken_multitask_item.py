"""Multi-task: machine state (4 classes) and remaining life (regression) from sensors."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(21)
N, F_IN = 2400, 16
state = torch.randint(0, 4, (N,))
centers = 1.2 * torch.randn(4, F_IN)
wear = torch.rand(N)
direction = torch.randn(F_IN)
x = centers[state] + wear[:, None] * direction + 0.5 * torch.randn(N, F_IN)
life = (1 - wear) * (1 + 0.3 * state.float())
x = (x - x.mean(0)) / x.std(0)
life = (life - life.mean()) / life.std()


class MultiTask(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(F_IN, hidden), nn.LayerNorm(hidden), nn.SiLU(),
                                   nn.Linear(hidden, hidden), nn.SiLU())
        self.heads = nn.ModuleDict({"state": nn.Linear(hidden, 4), "life": nn.Linear(hidden, 1)})

    def forward(self, x):
        h = self.trunk(x)
        return {k: head(h) for k, head in self.heads.items()}


model = MultiTask()
ds = TensorDataset(x, state, life)
train_loader = DataLoader(torch.utils.data.Subset(ds, range(2000)), batch_size=50, shuffle=True)
test_loader = DataLoader(torch.utils.data.Subset(ds, range(2000, N)), batch_size=100)
optimizer = torch.optim.SGD([
    {"params": model.trunk.parameters(), "lr": 0.05},
    {"params": model.heads.parameters(), "lr": 0.1},
], momentum=0.9)
ce = nn.CrossEntropyLoss()
mse = nn.MSELoss()


def training_step(model, batch):
    x, state, life = batch
    out = model(x)
    return ce(out["state"], state) + 0.5 * mse(out["life"].squeeze(1), life).item()
