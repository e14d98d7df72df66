"""Very wide MLP (1500 units, mu-P style output) with a Muon-like orthogonalised momentum optimizer."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(45)
teacher = nn.Sequential(nn.Linear(24, 12), nn.Tanh(), nn.Linear(12, 1))
nn.init.normal_(teacher[0].weight, std=0.4)
with torch.no_grad():
    X = (torch.rand(6000, 24) < 0.5).float()
    y = teacher(X)
    y = (y - y.mean()) / y.std()


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr=0.02, momentum=0.95):
        super().__init__(params, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                buf = self.state[p].setdefault("buf", torch.zeros_like(p))
                buf.lerp_(p.grad, 1 - group["momentum"])
                u = p.grad.lerp(buf, group["momentum"])
                if p.ndim == 2 and min(p.shape) > 1:
                    flip = u.shape[0] > u.shape[1]
                    m = (u.T if flip else u) / (u.norm() + 1e-7)
                    for _ in range(5):
                        a = m @ m.T
                        m = 3.4445 * m + (-4.7750 * a + 2.0315 * a @ a) @ m
                    u = (m.T if flip else m) * max(1, p.shape[0] / p.shape[1]) ** 0.5
                else:
                    u = u / (u.norm() + 1e-7)
                p.add_(u, alpha=-group["lr"])


model = nn.Sequential(nn.Linear(24, 1500), nn.ReLU(), nn.Linear(1500, 64), nn.ReLU(), nn.Linear(64, 1))
nn.init.normal_(model[-1].weight, std=1 / 64)
train_loader = DataLoader(TensorDataset(X[:5500], y[:5500]), batch_size=500, shuffle=True)
test_loader = DataLoader(TensorDataset(X[5500:], y[5500:]), batch_size=250)
criterion = nn.MSELoss()
optimizer = Muon(model.parameters(), lr=0.03)
scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=200)


if __name__ == "__main__":
    model.train()
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            scheduler.step()
        print(epoch, loss.item())
