"""Offline actor-critic (advantage-weighted regression) on a fixed log of a continuous-control task."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(34)
N, GAMMA = 6000, 0.9
s = torch.randn(N, 4)
gain = torch.tensor([[0.6, -0.3], [0.2, 0.5], [-0.4, 0.1], [0.1, 0.3]])
a = -0.5 * s @ gain + 0.7 * torch.randn(N, 2)
r = 1 - (a + s @ gain).square().sum(1)
s2 = 0.7 * s + 0.3 * torch.cat([a, -a], 1) + 0.1 * torch.randn(N, 4)


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.mean = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 2))
        self.log_std = nn.Parameter(torch.full((2,), -0.5))
        self.value = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 1))

    def forward(self, s):
        return torch.distributions.Normal(self.mean(s), self.log_std.exp()), self.value(s).squeeze(1)


def training_step(model, batch):
    s, a, r, s2 = batch
    pi, v = model(s)
    with torch.no_grad():
        target = (1 - GAMMA) * r + GAMMA * model(s2)[1]
        w = ((target - v) / 0.1).exp().clamp(max=10)
        w = w / w.mean()
    return (v - target).square().mean() - (w * pi.log_prob(a).sum(1)).mean()


train_loader = DataLoader(TensorDataset(s, a, r, s2), batch_size=128, shuffle=True)
model = ActorCritic()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(5):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
