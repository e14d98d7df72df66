"""Frame-wise transformer over log-energy frames; clip label by mean pooling."""
import math
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def make_clips(n, frames=20, bands=8):
    t = torch.arange(frames)[None, :, None] / frames
    f = torch.arange(bands)[None, None, :] / bands
    y = torch.randint(0, 4, (n,))
    slope = torch.tensor([1.0, -1.0, 0.0, 0.0])[y][:, None, None]
    start = torch.where(y[:, None, None] == 1, 1.0, 0.0) + torch.where(y[:, None, None] > 1, 0.5, 0.0)
    wobble = torch.where(y[:, None, None] == 3, 0.35, 0.0) * torch.sin(14 * t + 6.28 * torch.rand(n, 1, 1))
    x = torch.exp(-((f - start - slope * t - wobble) ** 2) / 0.02) + 0.1 * torch.randn(n, frames, bands)
    return (x - 0.22) / 0.35, y


class FrameTransformer(nn.Module):
    def __init__(self, bands=8, dim=32, frames=20):
        super().__init__()
        self.proj = nn.Linear(bands, dim)
        pos = torch.arange(frames)[:, None] * torch.exp(torch.arange(0, dim, 2) * (-math.log(1e3) / dim))
        self.register_buffer("pe", torch.stack([pos.sin(), pos.cos()], -1).flatten(1))
        layer = nn.TransformerEncoderLayer(dim, 4, 64, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(dim, 4)

    def forward(self, x):
        h = self.encoder(self.proj(x) + self.pe)
        return self.head(h.mean(1))


train_loader = DataLoader(TensorDataset(*make_clips(1200)), batch_size=32, shuffle=True)
test_loader = DataLoader(TensorDataset(*make_clips(200)), batch_size=50)
model = FrameTransformer()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
