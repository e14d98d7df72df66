"""Capsule network with dynamic routing and the margin loss on small glyphs."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(21)
glyphs = (torch.rand(5, 1, 8, 8) > 0.55).float()


def make(n):
    y = torch.randint(0, 5, (n,))
    canvas = torch.zeros(n, 1, 12, 12)
    dy, dx = torch.randint(0, 5, (2, n))
    for i in range(n):
        canvas[i, :, dy[i]:dy[i] + 8, dx[i]:dx[i] + 8] = glyphs[y[i]]
    return TensorDataset((canvas + 0.15 * torch.randn_like(canvas)).clamp(0, 1), y)


def squash(s):
    n2 = s.square().sum(-1, keepdim=True)
    return n2 / (1 + n2) * s / (n2 + 1e-8).sqrt()


class CapsNet(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.conv = nn.Conv2d(1, 32, 3)
        self.primary = nn.Conv2d(32, 4 * dim, 3, stride=2)
        self.dim = dim
        self.w = nn.Parameter(0.15 * torch.randn(64, 5, dim, dim))

    def forward(self, x):
        u = self.primary(F.relu(self.conv(x)))
        u = squash(u.view(len(x), 4, self.dim, -1).permute(0, 1, 3, 2).reshape(len(x), -1, self.dim))
        votes = torch.einsum("bni,ncio->bnco", u, self.w)
        logits = torch.zeros(votes.shape[:3])
        for _ in range(2):
            out = squash((logits.softmax(2).unsqueeze(-1) * votes).sum(1))
            logits = logits + (votes.detach() * out.detach().unsqueeze(1)).sum(-1)
        return squash((logits.softmax(2).unsqueeze(-1) * votes).sum(1)).norm(dim=-1)


def loss_fn(lengths, y):
    t = F.one_hot(y, lengths.shape[1]).float()
    return (t * F.relu(0.9 - lengths) ** 2 + 0.5 * (1 - t) * F.relu(lengths - 0.1) ** 2).sum(1).mean()


train_loader = DataLoader(make(2000), batch_size=32, shuffle=True)
test_loader = DataLoader(make(300), batch_size=100)
model = CapsNet()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(20):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
