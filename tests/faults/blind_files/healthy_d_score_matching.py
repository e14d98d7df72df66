"""Noise-conditional denoising score matching on two spirals in the plane."""
import math
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(35)
t = torch.rand(5000).sqrt() * 3 * math.pi
arm = torch.randint(0, 2, (5000,)) * math.pi
spiral = torch.stack([t * (t + arm).cos(), t * (t + arm).sin()], 1) / 5 + 0.02 * torch.randn(5000, 2)


class ScoreNet(nn.Module):
    def __init__(self, d=96):
        super().__init__()
        self.register_buffer("freq", torch.randn(2, 16) * 1.5)
        self.net = nn.Sequential(nn.Linear(2 + 32 + 1, d), nn.SiLU(), nn.Linear(d, d), nn.SiLU(), nn.Linear(d, 2))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x, sigma):
        p = x @ self.freq
        return self.net(torch.cat([x, p.sin(), p.cos(), sigma.log()], 1))


def training_step(model, batch):
    (x,) = batch
    sigma = torch.exp(torch.empty(len(x), 1).uniform_(math.log(0.05), math.log(1.0)))
    eps = torch.randn_like(x)
    return (model(x + sigma * eps, sigma) - eps).square().sum(1).mean()


train_loader = DataLoader(TensorDataset(spiral), batch_size=250, shuffle=True)
model = ScoreNet()
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(5):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
