import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class GradReverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, lambd):
        ctx.lambd = lambd
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad_output):
        return -ctx.lambd * grad_output, None


class TwoDomains(Dataset):
    """A labelled source domain and an unlabelled shifted target domain, item by item."""

    def __init__(self, n, seed, dim=20):
        g = torch.Generator().manual_seed(seed)
        w = torch.Generator().manual_seed(50)
        centres, shift = 2.0 * torch.randn(4, dim, generator=w), 1.2 * torch.randn(dim, generator=w)
        self.y = torch.randint(0, 4, (n,), generator=g)
        self.src = centres[self.y] + torch.randn(n, dim, generator=g)
        other = torch.randint(0, 4, (n,), generator=g)
        self.tgt = centres[other] + torch.randn(n, dim, generator=g) + shift

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.src[i], self.y[i], self.tgt[i]


class DANN(nn.Module):
    def __init__(self, dim=20, hidden=64, n_classes=4, lambd=0.3):
        super().__init__()
        self.lambd = lambd
        self.features = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())
        self.label_head = nn.Linear(hidden, n_classes)
        self.domain_head = nn.Sequential(nn.Linear(hidden, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        f = self.features(x)
        return self.label_head(f), self.domain_head(GradReverse.apply(f, self.lambd)).squeeze(1)


def training_step(model, batch):
    src, y, tgt = batch
    logits, d_src = model(src)
    _, d_tgt = model(tgt)
    d = torch.cat([d_src, d_tgt])
    domain = torch.cat([torch.zeros_like(d_src), torch.ones_like(d_tgt)])
    return F.cross_entropy(logits, y) + 0.5 * F.binary_cross_entropy_with_logits(d, domain)


torch.manual_seed(0)
train_loader = DataLoader(TwoDomains(2400, 0), batch_size=64, shuffle=True)
test_loader = DataLoader(TwoDomains(400, 1), batch_size=100)
model = DANN()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
