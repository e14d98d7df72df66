"""Siamese signature verification with a contrastive loss (Hadsell et al. 2006)."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(9)
WRITERS = 20
style = torch.randn(WRITERS, 2, 3)


def strokes(ids):
    t = torch.linspace(0, 6.28, 32)
    basis = torch.stack([t.sin(), (2 * t).cos(), (3 * t).sin()])
    clean = style[ids] @ basis
    return clean + 0.3 * torch.randn_like(clean)


def pairs(n):
    base_ids = torch.arange(WRITERS).repeat(15)
    bank = strokes(base_ids)
    i = torch.randint(len(base_ids), (n,))
    j = torch.randint(len(base_ids), (n,))
    for k in range(0, n, 2):
        mates = (base_ids == base_ids[i[k]]).nonzero().flatten()
        j[k] = mates[torch.randint(len(mates), (1,))]
    return TensorDataset(bank[i], bank[j], (base_ids[i] == base_ids[j]).float())


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(2, 16, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2),
                                  nn.Conv1d(16, 16, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2))
        self.fc = nn.Linear(16 * 8, 12)

    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))


def contrastive(a, b, same, margin=1.5):
    dist = (a - b).pow(2).sum(1).sqrt()
    return (same * dist**2 + (1 - same) * F.relu(margin - dist) ** 2).mean()


def training_step(model, batch):
    a, b, same = batch
    return contrastive(model(a), model(b), same)


model = Branch()
train_loader = DataLoader(pairs(1600), batch_size=64, shuffle=True)
test_loader = DataLoader(pairs(320), batch_size=64)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
