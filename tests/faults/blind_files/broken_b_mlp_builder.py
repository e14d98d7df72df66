import math
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(12)


def mlp(dims, dropout=0.0):
    layers = []
    for n_in, n_out in zip(dims[:-1], dims[1:]):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers)


class WindowForecaster(nn.Module):
    """look at 24 past values, say the next 6"""

    def __init__(self, past=24, future=6):
        super().__init__()
        self.encoder = mlp([past, 64, 64])
        self.decoder = mlp([64, 32, future])

    def forward(self, w):
        return self.decoder(self.encoder(w))


def series(length):
    t = torch.arange(length).float()
    s = torch.sin(2 * math.pi * t / 24) + 0.5 * torch.sin(2 * math.pi * t / 7) + 0.1 * torch.randn(length)
    return (s - s.mean()) / s.std()


def windows(s, past=24, future=6):
    w = s.unfold(0, past + future, 1)
    return w[:, :past], w[:, past:]


s = series(2400)
train_loader = DataLoader(TensorDataset(*windows(s[:1900])), batch_size=48, shuffle=True)
test_loader = DataLoader(TensorDataset(*windows(s[1900:])), batch_size=100)
model = WindowForecaster()
loss_fn = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

if __name__ == "__main__":
    for epoch in range(10):
        for past, future in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(past), future)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
