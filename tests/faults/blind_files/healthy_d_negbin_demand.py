"""Overdispersed demand counts: negative binomial with learned dispersion, log link, exposure offset."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(27)
store_effect = torch.randn(12) * 0.6


def make(n):
    store, day = torch.randint(0, 12, (n,)), torch.randint(0, 7, (n,))
    price = torch.rand(n) * 2
    exposure = torch.randint(1, 9, (n,)).float()
    mu = exposure * torch.exp(0.2 + store_effect[store] + 0.5 * (day >= 5) - 0.7 * price)
    lam = torch.distributions.Gamma(4.0, 4.0 / mu).sample()
    x = torch.stack([store.float(), day.float(), price, exposure], 1)
    return TensorDataset(x, torch.poisson(lam))


class Demand(nn.Module):
    def __init__(self):
        super().__init__()
        self.store, self.day = nn.Embedding(12, 4), nn.Embedding(7, 3)
        self.net = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
        self.log_r = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        z = torch.cat([self.store(x[:, 0].long()), self.day(x[:, 1].long()), x[:, 2:3]], 1)
        return self.net(z).squeeze(1) + x[:, 3].log()


def training_step(model, batch):
    x, y = batch
    log_mu, r = model(x), model.log_r.exp()
    nb = torch.distributions.NegativeBinomial(total_count=r, logits=log_mu - model.log_r)
    return -nb.log_prob(y).mean()


train_loader = DataLoader(make(4000), batch_size=100, shuffle=True)
test_loader = DataLoader(make(600), batch_size=300)
model = Demand()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, amsgrad=True)


if __name__ == "__main__":
    model.train()
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
