"""CTC: read a sequence of symbols from a noisy filter-bank; the net first learns to say blank."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(42)
SYMBOLS, T, BANDS = 5, 40, 10
shape = torch.randn(SYMBOLS + 1, BANDS)


def make(n):
    x, y, ylen = 0.3 * torch.randn(n, T, BANDS), torch.zeros(n, 6, dtype=torch.long), torch.randint(3, 7, (n,))
    for i in range(n):
        t = 0
        for k in range(int(ylen[i])):
            y[i, k] = torch.randint(1, SYMBOLS + 1, (1,))
            t += int(torch.randint(1, 3, (1,)))
            dur = int(torch.randint(3, 5, (1,)))
            x[i, t:t + dur] += shape[y[i, k]]
            t += dur
    return TensorDataset(x, y, ylen)


class Reader(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(BANDS, d, 5, padding=2), nn.BatchNorm1d(d), nn.ReLU())
        self.gru = nn.GRU(d, d, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * d, SYMBOLS + 1)

    def forward(self, x):
        h = self.conv(x.transpose(1, 2)).transpose(1, 2)
        return self.out(self.gru(h)[0]).log_softmax(-1)


def training_step(model, batch):
    x, y, ylen = batch
    return F.ctc_loss(model(x).transpose(0, 1), y, torch.full((len(x),), T), ylen, zero_infinity=True)


train_loader = DataLoader(make(1500), batch_size=32, shuffle=True)
test_loader = DataLoader(make(200), batch_size=100)
model = Reader()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
