"""Deep equilibrium classifier: 25 fixed-point iterations without graph, one with (phantom gradient)."""
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(38)


def rings(n):
    y = torch.randint(0, 3, (n,))
    v = torch.randn(n, 5)
    v = v / v.norm(dim=1, keepdim=True) * (0.6 + 0.7 * y[:, None] + 0.12 * torch.randn(n, 1))
    return TensorDataset(v, y)


class DEQ(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.inject = nn.Linear(5, d)
        self.cell = spectral_norm(nn.Linear(d, d, bias=False))
        self.head = nn.Linear(d, 3)

    def f(self, z, u):
        return torch.tanh(0.9 * self.cell(z) + u)

    def forward(self, x):
        u = self.inject(x)
        with torch.no_grad():
            z = torch.zeros_like(u)
            for _ in range(25):
                z = self.f(z, u)
        for _ in range(2):
            z = self.f(z, u)
        return self.head(z)


train_loader = DataLoader(rings(3000), batch_size=64, shuffle=True)
test_loader = DataLoader(rings(500), batch_size=250)
model = DEQ()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=1e-2)


if __name__ == "__main__":
    model.train()
    for epoch in range(20):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
