"""Domain-adversarial training with a gradient reversal layer."""
import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


class GradientReversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, lam):
        ctx.lam = lam
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -ctx.lam * grad, None


def domain(n, seed, shift):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (n,), generator=g)
    centre = torch.tensor([[1.5, 0.0], [-1.0, 1.2], [-1.0, -1.2]])[y]
    x = centre + 0.35 * torch.randn(n, 2, generator=g)
    noise = torch.randn(n, 6, generator=g) * 0.5
    noise[:, 0] += shift
    return torch.cat([x, noise], 1), y


class DANN(nn.Module):
    def __init__(self, lam=0.3):
        super().__init__()
        self.lam = lam
        self.features = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.classifier = nn.Linear(32, 3)
        self.domain = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        h = self.features(x)
        return self.classifier(h), self.domain(GradientReversal.apply(h, self.lam)).squeeze(1)


def training_step(model, batch):
    xs, ys, xt = batch
    logits, d_src = model(xs)
    _, d_tgt = model(xt)
    d_out = torch.cat([d_src, d_tgt])
    d_true = torch.cat([torch.zeros_like(d_src), torch.ones_like(d_tgt)])
    return F.cross_entropy(logits, ys) + F.binary_cross_entropy_with_logits(d_out, d_true)


def evaluate(model):
    x, y = domain(500, 7, 1.0)
    return (model(x)[0].argmax(1) == y).float().mean().item()


xs, ys = domain(2000, 0, -1.0)
xt, _ = domain(2000, 1, 1.0)
train_loader = DataLoader(TensorDataset(xs, ys, xt), batch_size=64, shuffle=True)
model = DANN()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
