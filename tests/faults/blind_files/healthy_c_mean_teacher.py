import copy
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class SemiMoons(Dataset):
    """Two moons in 10 dimensions; only one label in four is known (-1 = unknown)."""

    def __init__(self, n, seed, known=0.25):
        g = torch.Generator().manual_seed(seed)
        y = torch.randint(0, 2, (n,), generator=g)
        t = 3.1416 * torch.rand(n, generator=g)
        side = 1 - 2 * y.float()
        p = torch.stack([torch.cos(t) * side + y, torch.sin(t) * side + 0.4 * y], 1) * 1.5
        mix = torch.randn(2, 10, generator=torch.Generator().manual_seed(7))
        self.x = p @ mix + 0.15 * torch.randn(n, 10, generator=g)
        self.y = torch.where(torch.rand(n, generator=g) < known, y, torch.full_like(y, -1))

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class MeanTeacher(nn.Module):
    def __init__(self, decay=0.95):
        super().__init__()
        self.student = nn.Sequential(
            nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2))
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update_teacher(self):
        for t, s in zip(self.teacher.parameters(), self.student.parameters()):
            t.lerp_(s, 1 - self.decay)

    def forward(self, x):
        return self.student(x)


def training_step(model, batch, weight=1.0):
    x, y = batch
    if model.training:
        model.update_teacher()
    logits = model(x)
    with torch.no_grad():
        target = model.teacher(x + 0.05 * torch.randn_like(x)).softmax(1)
    supervised = F.cross_entropy(logits, y, ignore_index=-1)
    consistency = F.mse_loss(logits.softmax(1), target)
    return supervised + weight * consistency


torch.manual_seed(0)
train_loader = DataLoader(SemiMoons(3000, 0), batch_size=100, shuffle=True)
test_loader = DataLoader(SemiMoons(500, 1, known=1.0), batch_size=100)
model = MeanTeacher()
optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-3)
