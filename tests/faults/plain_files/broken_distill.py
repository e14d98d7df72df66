"""Distil a teacher's soft labels into a small student CNN."""
import numpy as np
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def make_images(n, seed, size=16):
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[:size, :size]
    images, labels = [], rng.integers(0, 4, n)
    for k in labels:
        cy, cx, r = rng.uniform(5, 11), rng.uniform(5, 11), rng.uniform(3, 4.5)
        dy, dx = np.abs(yy - cy), np.abs(xx - cx)
        if k == 0:
            img = (dy ** 2 + dx ** 2 < r ** 2)
        elif k == 1:
            img = (np.maximum(dy, dx) < r) & (np.maximum(dy, dx) > r - 1.6)
        elif k == 2:
            img = ((dy < 1) | (dx < 1)) & (np.maximum(dy, dx) < r + 1)
        else:
            img = (np.abs(dy - dx) < 1.1) & (np.maximum(dy, dx) < r + 1)
        images.append(img * rng.uniform(0.7, 1.0) + rng.normal(0, 0.05, img.shape))
    x = torch.tensor(np.array(images), dtype=torch.float32).unsqueeze(1).clamp(0, 1)
    return x, torch.tensor(labels)


class Student(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(1, 12, 3, stride=2, padding=1)
        self.c2 = nn.Conv2d(12, 24, 3, stride=2, padding=1)
        self.fc = nn.Linear(24 * 16, 4)

    def forward(self, x):
        x = F.relu(self.c1(x))
        x = F.relu(self.c2(x))
        x = self.fc(x.flatten(1))
        return F.softmax(x, dim=1)


def soft_targets(y, temperature=2.0):
    logits = 6.0 * F.one_hot(y, 4).float() + 0.5 * torch.randn(len(y), 4)
    return (logits / temperature).softmax(1)


def training_step(model, batch):
    x, y, teacher = batch
    student = model(x)
    hard = F.cross_entropy(student, y)
    soft = F.kl_div(F.log_softmax(student / 2.0, dim=1), teacher, reduction="batchmean") * 4.0
    return 0.5 * hard + 0.5 * soft


def evaluate(model):
    x, y = make_images(300, 5)
    return F.nll_loss(F.softmax(model((x - 0.15) / 0.3), 1).log(), y).item()


x, y = make_images(1200, 0)
train_loader = DataLoader(TensorDataset((x - 0.15) / 0.3, y, soft_targets(y)), batch_size=32, shuffle=True)
model = Student()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
