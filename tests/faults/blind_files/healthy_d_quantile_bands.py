"""Three quantiles of a skewed, heteroscedastic target at once; increments keep them ordered."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(25)
TAUS = torch.tensor([0.1, 0.5, 0.9])


def make(n):
    x = torch.rand(n, 2) * 6.2832
    noise = torch.distributions.Gamma(2.0, 2.0).sample((n,)) - 1
    y = torch.sin(x[:, 0]) + 0.5 * torch.cos(x[:, 1]) + (0.2 + 0.3 * torch.sin(x[:, 0] / 2)) * noise
    return TensorDataset(x, y.unsqueeze(1))


class Bands(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 64), nn.Mish(), nn.Linear(64, 64), nn.Mish(), nn.Linear(64, 3))

    def forward(self, x):
        low, a, b = self.net(x).split(1, 1)
        mid = low + nn.functional.softplus(a)
        return torch.cat([low, mid, mid + nn.functional.softplus(b)], 1)


def loss_fn(q, y):
    e = y - q
    return torch.maximum(TAUS * e, (TAUS - 1) * e).mean()


train_loader = DataLoader(make(4000), batch_size=80, shuffle=True)
test_loader = DataLoader(make(600), batch_size=300)
model = Bands()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, momentum=0.9)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 600)


if __name__ == "__main__":
    model.train()
    for epoch in range(5):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            scheduler.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
