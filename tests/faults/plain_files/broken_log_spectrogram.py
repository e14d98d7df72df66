"""Log-spectrogram CNN; some recordings begin or end with digital silence."""
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


def log_spectrogram(wave):
    spec = torch.stft(wave, 64, hop_length=32, window=torch.hann_window(64), center=False, return_complex=True)
    return torch.log(spec.abs()).unsqueeze(1) / 3.0


def dataset(n, seed):
    wave, label = make_clips(n, seed)
    g = torch.Generator().manual_seed(seed)
    for i in torch.nonzero(torch.rand(n, generator=g) < 0.3).flatten():
        cut = int(torch.randint(80, 160, (), generator=g))
        wave[i, :cut] = 0.0
    return TensorDataset(log_spectrogram(wave), label)


class SpecNet(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc = nn.Linear(32 * 8, classes)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.max_pool2d(torch.relu(self.conv2(x)), 2)
        return self.fc(x.mean(3).flatten(1))


train_loader = DataLoader(dataset(1000, 0), batch_size=32, shuffle=True)
test_loader = DataLoader(dataset(200, 1), batch_size=50)
model = SpecNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
