import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class Views(Dataset):
    def __init__(self, n=2000, dim=40, seed=0):
        g = torch.Generator().manual_seed(seed)
        basis = torch.randn(6, dim, generator=g)
        self.clean = torch.tanh(torch.randn(n, 6, generator=g) @ basis / 2)

    def view(self, x):
        x = x + 0.3 * torch.randn_like(x)
        return x * (torch.rand_like(x) > 0.15)

    def __len__(self):
        return len(self.clean)

    def __getitem__(self, i):
        return self.view(self.clean[i]), self.view(self.clean[i])


class SimCLR(nn.Module):
    def __init__(self, dim=40, out=32):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(dim, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU())
        self.projector = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, out))

    def forward(self, x):
        return F.normalize(self.projector(self.encoder(x)), dim=1)


def nt_xent(z, temperature=0.2):
    n = z.size(0) // 2
    sim = z @ z.t() / temperature
    sim.fill_diagonal_(float("-inf"))
    positives = torch.arange(2 * n).roll(n)
    return F.cross_entropy(sim, positives)


def training_step(model, batch):
    return nt_xent(model(torch.cat(batch)))


torch.manual_seed(0)
train_loader = DataLoader(Views(), batch_size=64, shuffle=True, drop_last=True)
model = SimCLR()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-6)
