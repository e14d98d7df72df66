import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(18)
regimes = torch.randn(4, 6)
slopes = torch.randn(4, 6) * 1.2


def piecewise(n):
    x = torch.randn(n, 6)
    k = (x @ regimes.t()).argmax(1)
    y = (x * slopes[k]).sum(1) + 0.1 * torch.randn(n)
    return TensorDataset(x, y.unsqueeze(1) / 3)


class MoE(nn.Module):
    def __init__(self, d=6, h=24, n_experts=4):
        super().__init__()
        self.gate = nn.Linear(d, n_experts)
        self.experts = nn.ModuleList(
            [nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, 1)) for _ in range(n_experts)]
        )

    def forward(self, x):
        top = self.gate(x).argmax(dim=-1)
        weights = F.one_hot(top, len(self.experts)).float()
        outs = torch.cat([e(x) for e in self.experts], dim=-1)
        return (weights * outs).sum(-1, keepdim=True)


model = MoE()
train_loader = DataLoader(piecewise(4000), batch_size=100, shuffle=True)
test_loader = DataLoader(piecewise(800), batch_size=200)
loss_fn = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

if __name__ == "__main__":
    for epoch in range(10):
        for x, y in train_loader:
            loss = loss_fn(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
