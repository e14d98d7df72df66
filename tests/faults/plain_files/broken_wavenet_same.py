"""Autoregressive model of quantised audio with dilated convolutions."""
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
LEVELS = 16


def make_audio(n, length=65):
    t = torch.arange(length)
    f = 0.05 + 0.1 * torch.rand(n, 1)
    wave = torch.sin(2 * torch.pi * (f * t + torch.rand(n, 1))) + 0.2 * torch.randn(n, length)
    tokens = ((wave.clamp(-1.2, 1.2) / 1.2 + 1) / 2 * (LEVELS - 1)).round().long()
    return tokens[:, :-1], tokens[:, 1:]


class GatedConv(nn.Module):
    def __init__(self, width, dilation):
        super().__init__()
        self.dilation = dilation
        self.conv = nn.Conv1d(width, 2 * width, 3, dilation=dilation)
        self.skip = nn.Conv1d(width, width, 1)

    def forward(self, x):
        h = self.conv(F.pad(x, (self.dilation, self.dilation)))
        a, b = h.chunk(2, dim=1)
        return x + self.skip(torch.tanh(a) * torch.sigmoid(b))


class WaveNet(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.embed = nn.Embedding(LEVELS, width)
        self.layers = nn.Sequential(*[GatedConv(width, 2 ** i) for i in range(4)])
        self.out = nn.Conv1d(width, LEVELS, 1)

    def forward(self, tokens):
        return self.out(F.relu(self.layers(self.embed(tokens).transpose(1, 2))))


train_loader = DataLoader(TensorDataset(*make_audio(1000)), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset(*make_audio(200)), batch_size=50)
model = WaveNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
