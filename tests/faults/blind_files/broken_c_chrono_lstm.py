import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class DelayedCue(Dataset):
    """A cue in the first ticks, then a long stretch of distractors; the label is the cue."""

    def __init__(self, n, seed, length=60, n_cues=4):
        g = torch.Generator().manual_seed(seed)
        self.y = torch.randint(0, n_cues, (n,), generator=g)
        self.x = 0.3 * torch.randn(n, length, n_cues + 2, generator=g)
        self.x[torch.arange(n), 0, self.y] += 2.0
        self.x[torch.arange(n), 1, self.y] += 2.0
        self.x[:, :2, n_cues] += 1.0

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class ChronoLSTM(nn.Module):
    """LSTM with the chrono initialisation of the gate biases (input, forget, cell, output)."""

    def __init__(self, n_in=6, hidden=64, n_classes=4, t_max=60):
        super().__init__()
        self.lstm = nn.LSTM(n_in, hidden, batch_first=True)
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, n_classes)
        with torch.no_grad():
            span = torch.log(1 + (t_max - 2) * torch.rand(hidden))
            self.lstm.bias_hh_l0.zero_()
            self.lstm.bias_ih_l0.zero_()
            self.lstm.bias_ih_l0[:hidden] = span
            self.lstm.bias_ih_l0[hidden:2 * hidden] = -span

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(self.norm(out[:, -1]))


torch.manual_seed(0)
train_loader = DataLoader(DelayedCue(2000, 0), batch_size=50, shuffle=True)
test_loader = DataLoader(DelayedCue(400, 1), batch_size=100)
model = ChronoLSTM()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
