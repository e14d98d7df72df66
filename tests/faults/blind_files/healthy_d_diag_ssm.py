"""Diagonal complex state-space layer (S4D-like), run as a plain recurrence: recall the tone that came first."""
import math
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(12)
T = 48


def make(n):
    y = torch.randint(0, 4, (n,))
    t = torch.arange(T).float()
    f = 0.06 + 0.09 * y[:, None].float()
    tone = torch.sin(2 * math.pi * (f * t + torch.rand(n, 1))) * (t < 20)
    return TensorDataset((tone + 0.2 * torch.randn(n, T)).unsqueeze(-1), y)


class DiagSSM(nn.Module):
    def __init__(self, d_in, states):
        super().__init__()
        self.log_decay = nn.Parameter(torch.linspace(math.log(0.005), math.log(0.2), states))
        self.theta = nn.Parameter(torch.linspace(0.05, 2.8, states)[torch.randperm(states)])
        self.b = nn.Linear(d_in, 2 * states, bias=False)
        self.c = nn.Linear(2 * states, d_in)
        self.skip = nn.Parameter(torch.ones(d_in))

    def forward(self, u):
        decay = self.log_decay.exp()
        lam = torch.polar(torch.exp(-decay), self.theta)
        drive = torch.complex(*self.b(u).chunk(2, -1)) * (1 - torch.exp(-2 * decay)).sqrt()
        h, outs = torch.zeros_like(drive[:, 0]), []
        for t in range(u.shape[1]):
            h = lam * h + drive[:, t]
            outs.append(h)
        s = torch.stack(outs, 1)
        return self.c(torch.cat([s.real, s.imag], -1)) + self.skip * u


class Net(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.enc, self.ssm = nn.Linear(1, d), DiagSSM(d, 32)
        self.mlp = nn.Sequential(nn.LayerNorm(d), nn.GELU(), nn.Linear(d, 32), nn.GELU(), nn.Linear(32, 4))

    def forward(self, x):
        return self.mlp(self.ssm(self.enc(x))[:, -8:]).mean(1)


train_loader = DataLoader(make(2000), batch_size=50, shuffle=True)
test_loader = DataLoader(make(400), batch_size=200)
model = Net()
criterion = nn.CrossEntropyLoss()
slow = [model.ssm.log_decay, model.ssm.theta]
fast = [p for n, p in model.named_parameters() if n not in ("ssm.log_decay", "ssm.theta")]
optimizer = torch.optim.AdamW([{"params": slow, "lr": 1e-3, "weight_decay": 0.0}, {"params": fast}], lr=5e-3, weight_decay=0.05)


if __name__ == "__main__":
    model.train()
    for epoch in range(5):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
