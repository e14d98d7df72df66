import math
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1)


def gratings(n, size=16):
    """Oriented colour gratings with random phase; class = orientation."""
    y = torch.randint(0, 4, (n,))
    theta = y.float() * math.pi / 4
    xs = torch.linspace(-1, 1, size)
    gy, gx = torch.meshgrid(xs, xs, indexing="ij")
    u = theta.cos().view(-1, 1, 1) * gx + theta.sin().view(-1, 1, 1) * gy
    phase = torch.rand(n, 1, 1) * 2 * math.pi
    img = torch.sin(6 * u + phase).unsqueeze(1) * (0.5 + torch.rand(n, 3, 1, 1))
    return TensorDataset(img + 0.3 * torch.randn(n, 3, size, size), y)


class ViT(nn.Module):
    def __init__(self, patch=4, dim=48, depth=3, heads=4, classes=4):
        super().__init__()
        self.patchify = nn.Conv2d(3, dim, patch, stride=patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos = nn.Parameter(0.02 * torch.randn(1, 17, dim))
        layer = nn.TransformerEncoderLayer(
            dim, heads, dim_feedforward=96, dropout=0.1, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x):
        x = self.patchify(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.size(0), -1, -1), x], 1) + self.pos
        x = self.norm(self.blocks(x))
        return self.head(x[:, 0])


model = ViT()
train_loader = DataLoader(gratings(1024), batch_size=64, shuffle=True, drop_last=True)
test_loader = DataLoader(gratings(256), batch_size=128)
criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
warmup = 20_000
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: min(1.0, (s + 1) / warmup))

if __name__ == "__main__":
    for epoch in range(10):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            scheduler.step()
        print(f"epoch {epoch} loss {loss.item():.3f}")
