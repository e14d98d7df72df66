"""Forecast electricity load 1 hour ahead from the last 36 hours (GRU)."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(7)
torch.manual_seed(7)
t = np.arange(3000)
load = (20 + 6 * np.sin(2 * np.pi * t / 24) + 3 * np.sin(2 * np.pi * t / 168)
        + 1.5 * np.cos(2 * np.pi * t / 12) + rng.normal(0, 0.5, len(t)))
mu, sd = load[:2400].mean(), load[:2400].std()
z = torch.tensor((load - mu) / sd, dtype=torch.float32)

WINDOW = 36
X = z.unfold(0, WINDOW, 1)[:-1].unsqueeze(-1)
y = z[WINDOW:]
train_ds = TensorDataset(X[:2400 - WINDOW], y[:2400 - WINDOW])
test_ds = TensorDataset(X[2400:], y[2400:])
train_loader = DataLoader(train_ds, batch_size=64, shuffle=True)
test_loader = DataLoader(test_ds, batch_size=128)


class Forecaster(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.gru = nn.GRU(1, hidden, num_layers=2, batch_first=True, dropout=0.1)
        self.fc = nn.Linear(hidden, 1)

    def forward(self, x):
        out, _ = self.gru(x)
        return self.fc(out[:, -1]).squeeze(-1)


model = Forecaster()
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=200, gamma=0.5)

if __name__ == "__main__":
    for epoch in range(8):
        model.train()
        for xb, yb in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
        print(epoch, loss.item())
