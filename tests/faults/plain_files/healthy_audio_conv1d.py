"""Timbre classification from raw waveforms."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


def make_clips(n, seed, length=512):
    rng = np.random.default_rng(seed)
    t = np.arange(length) / 8000.0
    clips, labels = [], rng.integers(0, 4, n)
    for k in labels:
        f, phase = rng.uniform(300, 900), rng.uniform(0, 1)
        cyc = (f * t + phase) % 1.0
        if k == 0:
            w = np.sin(2 * np.pi * cyc)
        elif k == 1:
            w = np.sign(cyc - 0.5)
        elif k == 2:
            w = 2 * cyc - 1
        else:
            w = np.sin(2 * np.pi * (cyc + 0.6 * np.sin(2 * np.pi * 40 * t)))
        clips.append(w * rng.uniform(0.8, 1.2) + rng.normal(0, 0.05, length))
    return torch.tensor(np.array(clips), dtype=torch.float32), torch.tensor(labels)


class Clips(Dataset):
    def __init__(self, n, seed, train):
        self.wave, self.label = make_clips(n, seed)
        self.train = train

    def __len__(self):
        return len(self.label)

    def __getitem__(self, i):
        w = self.wave[i]
        if self.train:
            w = torch.roll(w, int(torch.randint(0, 64, ())))
            if torch.rand(()) < 0.5:
                w = w * 0.9
        return w.unsqueeze(0), self.label[i]


class TimbreNet(nn.Module):
    def __init__(self, width=24, classes=4):
        super().__init__()
        self.front = nn.Conv1d(1, width, 32, stride=4, padding=16)
        self.res = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2) for _ in range(3))
        self.norms = nn.ModuleList(nn.GroupNorm(4, width) for _ in range(3))
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x):
        h = F.gelu(self.front(x))
        for conv, norm in zip(self.res, self.norms):
            h = h + F.gelu(norm(conv(h)))
        stats = torch.cat([h.mean(-1), h.std(-1)], dim=1)
        return self.head(stats)


train_loader = DataLoader(Clips(800, 0, True), batch_size=32, shuffle=True, drop_last=True)
test_loader = DataLoader(Clips(200, 1, False), batch_size=50)
model = TimbreNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
