"""Multi-scale convolution branches over a waveform."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


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


class MultiScale(nn.Module):
    def __init__(self, kernels=(4, 16, 48), width=12, classes=4):
        super().__init__()
        self.branches = [
            nn.Sequential(nn.Conv1d(1, width, k, stride=k // 4 * 2 or 1), nn.ReLU(),
                          nn.Conv1d(width, width, 3), nn.ReLU())
            for k in kernels]
        self.norm = nn.LayerNorm(width * len(kernels))
        self.fc = nn.Linear(width * len(kernels), classes)

    def forward(self, wave):
        wave = wave.unsqueeze(1)
        pooled = [branch(wave).mean(-1) for branch in self.branches]
        return self.fc(self.norm(torch.cat(pooled, dim=1)))


train_loader = DataLoader(TensorDataset(*make_clips(800, 0)), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset(*make_clips(200, 1)), batch_size=50)
model = MultiScale()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
