"""Key-word style sound classification: log-magnitude frames into a 1-D conv net."""
import math
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(14)
SR, N_FFT, HOP = 1600, 64, 32


def synth(kind, g):
    t = torch.arange(SR // 2) / SR
    f0 = 80 + 120 * torch.rand(1, generator=g)
    phase = 2 * math.pi * f0 * t
    if kind == 0:
        s = phase.sin()
    elif kind == 1:
        s = phase.sin().sign()
    elif kind == 2:
        s = torch.sin(phase * (1 + 1.2 * t))
    else:
        s = phase.sin() * (0.5 + 0.5 * torch.sin(2 * math.pi * 12 * t))
    s = s + 0.2 * torch.randn(len(t), generator=g)
    lead = int(torch.randint(0, 200, (1,), generator=g))
    s[:lead] = 0
    return s


class Sounds(Dataset):
    def __init__(self, n, seed):
        self.n, self.seed = n, seed
        self.window = torch.hann_window(N_FFT)

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        g = torch.Generator().manual_seed(self.seed * 100003 + i)
        kind = i % 4
        spec = torch.stft(synth(kind, g), N_FFT, HOP, window=self.window, center=False, return_complex=True)
        return torch.log(spec.abs() + 1e-2), kind


class Net(nn.Module):
    def __init__(self, mels=N_FFT // 2 + 1):
        super().__init__()
        self.c1 = nn.Conv1d(mels, 32, 5, padding=2)
        self.c2 = nn.Conv1d(32, 32, 5, padding=2)
        self.fc = nn.Linear(64, 4)

    def forward(self, x):
        h = F.relu(self.c2(F.relu(self.c1(x))))
        h = torch.cat([h.mean(-1), h.amax(-1)], 1)
        return self.fc(F.dropout(h, 0.4))


model = Net()
train_loader = DataLoader(Sounds(800, seed=1), batch_size=32, shuffle=True)
test_loader = DataLoader(Sounds(160, seed=2), batch_size=80)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
