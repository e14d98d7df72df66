"""A forecaster whose hidden layers are modulated (FiLM, zero-initialised) by the market regime."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(57)
W = torch.randn(4, 10)


def make(n):
    regime, x = torch.randint(0, 4, (n,)), torch.randn(n, 10)
    y = (W[regime] * torch.tanh(x)).sum(1) / 2
    return TensorDataset(x, F.one_hot(regime, 4).float(), (y + 0.1 * torch.randn(n)).unsqueeze(1))


class Modulator(nn.Module):
    def __init__(self, n_cond, d, layers):
        super().__init__()
        self.maps = nn.ModuleList([nn.Linear(n_cond, 2 * d) for _ in range(layers)])
        for m in self.maps:
            nn.init.zeros_(m.weight)
            nn.init.zeros_(m.bias)

    def forward(self, c):
        return [m(c).chunk(2, 1) for m in self.maps]


class Forecaster(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.inp = nn.Linear(10, d)
        self.hidden = nn.ModuleList([nn.Linear(d, d) for _ in range(2)])
        self.film = Modulator(4, d, 2)
        self.head = nn.Linear(d, 1)

    def forward(self, x, c):
        h = F.silu(self.inp(x))
        for lin, (g, b) in zip(self.hidden, self.film(c)):
            h = F.silu((1 + g) * lin(h) + b)
        return self.head(h)


def training_step(model, batch):
    x, c, y = batch
    return F.mse_loss(model(x, c), y)


train_loader = DataLoader(make(4000), batch_size=64, shuffle=True)
test_loader = DataLoader(make(500), batch_size=250)
model = Forecaster()
optimizer = torch.optim.AdamW([*model.inp.parameters(), *model.hidden.parameters(), *model.head.parameters()], lr=3e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
