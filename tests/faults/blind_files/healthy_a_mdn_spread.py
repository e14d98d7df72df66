# Mixture density network for the inverse kinematics toy of Bishop (1994)
import math
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(4)


def inverse_problem(n):
    y = torch.rand(n, 1) * 2 - 1
    x = y + 0.6 * torch.sin(math.pi * 2 * y) + 0.05 * torch.randn(n, 1)
    return TensorDataset(x, y)


class MDN(nn.Module):
    def __init__(self, hidden=48, k=5):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(1, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh())
        self.pi = nn.Linear(hidden, k)
        self.mu = nn.Linear(hidden, k)
        self.log_sigma = nn.Linear(hidden, k)
        for head in (self.pi, self.mu, self.log_sigma):
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)
        self.mu.bias.data = torch.linspace(-1, 1, k)

    def forward(self, x):
        h = self.body(x)
        mu = self.mu(h)
        log_sigma = self.log_sigma(h).clamp(-4, 3)
        return F.log_softmax(self.pi(h), dim=-1), mu, log_sigma


def loss_fn(params, y):
    log_pi, mu, log_sigma = params
    z = (y - mu) * torch.exp(-log_sigma)
    log_prob = -0.5 * z * z - log_sigma - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(log_pi + log_prob, dim=-1).mean()


model = MDN()
train_loader = DataLoader(inverse_problem(2000), batch_size=100, shuffle=True)
test_loader = DataLoader(inverse_problem(500), batch_size=100)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

if __name__ == "__main__":
    for epoch in range(20):
        for x, y in train_loader:
            loss = loss_fn(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, float(loss))
