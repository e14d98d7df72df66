import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
DTYPE = torch.float16


class PatchMixer(nn.Module):
    def __init__(self, patches=16, dim=48, depth=2, n_classes=4):
        super().__init__()
        self.embed = nn.Linear(16, dim)
        self.tokens = nn.ModuleList(nn.Sequential(nn.Linear(patches, 32), nn.GELU(), nn.Linear(32, patches)) for _ in range(depth))
        self.channels = nn.ModuleList(nn.Sequential(nn.Linear(dim, 96), nn.GELU(), nn.Linear(96, dim)) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(depth + 1))
        self.head = nn.Linear(dim, n_classes)

    def forward(self, x):
        b = x.shape[0]
        x = x.view(b, 4, 4, 4, 4).transpose(2, 3).reshape(b, 16, 16)
        x = self.embed(x)
        for tok, ch, norm in zip(self.tokens, self.channels, self.norms):
            h = norm(x)
            x = x + tok(h.transpose(1, 2)).transpose(1, 2)
            x = x + ch(norm(x))
        return self.head(self.norms[-1](x).mean(1))


def quadrants(n):
    y = torch.randint(0, 4, (n,))
    x = torch.randn(n, 16, 16)
    for i, k in enumerate(y.tolist()):
        r, c = 8 * (k // 2), 8 * (k % 2)
        x[i, r:r + 8, c:c + 8] += 0.6
    return TensorDataset(x.to(DTYPE), y)


def loss_fn(logits, y):
    return nn.functional.cross_entropy(logits.float(), y, label_smoothing=0.02)


train_loader = DataLoader(quadrants(2000), batch_size=64, shuffle=True)
test_loader = DataLoader(quadrants(400), batch_size=100)
model = PatchMixer().to(DTYPE)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
