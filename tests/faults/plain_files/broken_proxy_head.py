"""Speaker-like embedding with learned proxies and a learned scale (ProxyNCA)."""
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
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


class Embedder(nn.Module):
    def __init__(self, dim=3):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(1, 16, 16, stride=4), nn.ReLU(),
                                  nn.Conv1d(16, 32, 8, stride=2), nn.ReLU())
        self.fc = nn.Linear(64, dim)

    def forward(self, x):
        h = self.conv(x.unsqueeze(1))
        return F.normalize(self.fc(torch.cat([h.mean(-1), h.amax(-1)], 1)), dim=1)


class ProxyLoss(nn.Module):
    def __init__(self, classes, dim):
        super().__init__()
        self.proxies = nn.Parameter(0.02 * torch.randn(classes, dim) + 0.05)
        self.log_scale = nn.Parameter(torch.tensor(0.0))

    def forward(self, e, y):
        logits = self.log_scale.exp() * e @ F.normalize(self.proxies, dim=1).T
        return F.cross_entropy(logits, y)


train_loader = DataLoader(TensorDataset(*make_clips(1000, 0)), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset(*make_clips(200, 1)), batch_size=50)
model = Embedder()
loss_fn = ProxyLoss(4, 3)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
