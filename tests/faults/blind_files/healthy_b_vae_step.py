import torch
from torch import nn
from torch.utils.data import DataLoader

torch.manual_seed(111)


def ellipses(n, s=12):
    g = torch.arange(s).float()
    c = torch.rand(n, 2, 1, 1) * 4 + 4
    r = torch.rand(n, 2, 1, 1) * 2 + 1.5
    d = ((g.view(1, s, 1) - c[:, 0]) / r[:, 0]) ** 2 + ((g.view(1, 1, s) - c[:, 1]) / r[:, 1]) ** 2
    return torch.sigmoid(4 * (1 - d)).flatten(1)


class VAE(nn.Module):
    def __init__(self, d=144, h=96, z=6):
        super().__init__()
        self.to_h = nn.Linear(d, h)
        self.to_mu, self.to_logvar = nn.Linear(h, z), nn.Linear(h, z)
        self.from_z = nn.Linear(z, h)
        self.to_x = nn.Linear(h, d)

    def encode(self, x):
        h = torch.relu(self.to_h(x))
        return self.to_mu(h), self.to_logvar(h)

    def sample(self, mu, logvar):
        if not self.training:
            return mu
        return mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = self.sample(mu, logvar)
        return self.to_x(torch.relu(self.from_z(z))), mu, logvar


def elbo(logits, x, mu, logvar):
    rec = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="none").sum(1)
    kl = -0.5 * (1 + logvar - mu ** 2 - logvar.exp()).sum(1)
    return (rec + kl).mean()


def training_step(model, batch):
    logits, mu, logvar = model(batch)
    return elbo(logits, batch, mu, logvar)


train_loader = DataLoader(ellipses(1280), batch_size=64, shuffle=True)
test_loader = DataLoader(ellipses(256), batch_size=64)
model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

if __name__ == "__main__":
    for epoch in range(15):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
