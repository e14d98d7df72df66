"""Pitch regression from 16-bit PCM frames."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class PcmFrames(Dataset):
    def __init__(self, n, seed, length=256, rate=8000):
        rng = np.random.default_rng(seed)
        self.hz = rng.uniform(200, 1000, n)
        t = np.arange(length) / rate
        wave = np.sin(2 * np.pi * (self.hz[:, None] * t + rng.uniform(0, 1, (n, 1))))
        wave = 0.6 * wave + rng.normal(0, 0.03, wave.shape)
        self.pcm = (wave.clip(-1, 1) * 32767).astype(np.int16)

    def __len__(self):
        return len(self.pcm)

    def __getitem__(self, i):
        frame = torch.from_numpy(self.pcm[i].astype(np.float32))
        target = torch.tensor([(self.hz[i] - 600) / 231], dtype=torch.float32)
        return frame.unsqueeze(0), target


class PitchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(1, 16, 16, stride=2), nn.ReLU(),
            nn.Conv1d(16, 32, 8, stride=2), nn.ReLU(),
            nn.AdaptiveAvgPool1d(4), nn.Flatten())
        self.regress = nn.Sequential(nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        return self.regress(self.features(x))


train_loader = DataLoader(PcmFrames(1500, 0), batch_size=32, shuffle=True)
test_loader = DataLoader(PcmFrames(200, 1), batch_size=50)
model = PitchNet()
loss_fn = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
