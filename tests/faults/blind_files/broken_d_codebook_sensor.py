"""Discrete bottleneck for sensor frames: encoder, nearest code, decoder."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(52)
modes = torch.randn(10, 20)


def make(n):
    k = torch.randint(0, 10, (n,))
    clutter = 2.0 * torch.randn(n, 6)
    return TensorDataset(torch.cat([modes[k] + 0.3 * torch.randn(n, 20), clutter], 1), modes[k])


class Bottleneck(nn.Module):
    def __init__(self, d=8, codes=24):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(26, 48), nn.ReLU(), nn.Linear(48, d), nn.LayerNorm(d, elementwise_affine=False))
        self.codes = nn.Embedding(codes, d)
        self.decoder = nn.Sequential(nn.Linear(d, 48), nn.ReLU(), nn.Linear(48, 20))

    def forward(self, x):
        z = self.encoder(x)
        q = self.codes(torch.cdist(z, self.codes.weight).argmin(1))
        return self.decoder(q), z, q


def training_step(model, batch):
    x, clean = batch
    out, z, q = model(x)
    return F.mse_loss(out, clean) + F.mse_loss(q, z.detach())


train_loader = DataLoader(make(3000), batch_size=64, shuffle=True)
test_loader = DataLoader(make(400), batch_size=200)
model = Bottleneck()
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
