"""Deep 1-D convolution stack with its own He initialisation."""
import math
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


def he_normal_(conv):
    fan_in = conv.in_channels * conv.kernel_size[0]
    with torch.no_grad():
        conv.weight.normal_(0.0, 2.0 / fan_in)
        conv.bias.zero_()
    return conv


class DeepConv(nn.Module):
    def __init__(self, width=24, depth=7, classes=4):
        super().__init__()
        layers = [he_normal_(nn.Conv1d(1, width, 16, stride=4)), nn.ReLU()]
        for i in range(depth):
            layers += [he_normal_(nn.Conv1d(width, width, 5, stride=1 + i % 2, padding=2)), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(width, classes)

    def forward(self, wave):
        return self.head(self.body(wave.unsqueeze(1)).mean(-1))


train_loader = DataLoader(TensorDataset(*make_clips(1200, 0)), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset(*make_clips(200, 1)), batch_size=50)
model = DeepConv()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
