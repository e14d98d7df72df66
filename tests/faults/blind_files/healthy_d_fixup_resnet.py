"""A normaliser-free residual CNN with Fixup initialisation."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(2)
BLOCKS = 8


def shapes(n):
    """Bars, crosses, discs and rings on a noisy 16x16 canvas, pixels in 0..1."""
    y = torch.randint(0, 4, (n,))
    g = torch.arange(16).float()
    cy, cx = torch.randint(5, 11, (2, n, 1, 1)).float()
    dy, dx = g.view(1, 16, 1) - cy, g.view(1, 1, 16) - cx
    r = (dy ** 2 + dx ** 2).sqrt()
    kinds = torch.stack([(dy.abs() < 1.5).expand(n, 16, 16) & (dx.abs() < 6),
                         (dy.abs() < 1.5) & (dx.abs() < 6) | (dx.abs() < 1.5) & (dy.abs() < 6),
                         r < 4, (r < 5) & (r > 2.5)], 1).float()
    img = kinds[torch.arange(n), y]
    return (0.65 * img + 0.35 * torch.rand(n, 16, 16)).unsqueeze(1), y


class Block(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.b1a, self.b1b, self.b2a, self.b2b = (nn.Parameter(torch.zeros(1)) for _ in range(4))
        self.scale = nn.Parameter(torch.ones(1))
        self.conv1 = nn.Conv2d(c, c, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(c, c, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight)
        self.conv1.weight.data.mul_(BLOCKS ** -0.5)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x):
        h = F.relu(self.conv1(x + self.b1a) + self.b1b)
        return F.relu(x + self.scale * self.conv2(h + self.b2a) + self.b2b)


class FixupNet(nn.Module):
    def __init__(self, c=16):
        super().__init__()
        self.stem = nn.Conv2d(1, c, 3, stride=2, padding=1)
        self.blocks = nn.Sequential(*[Block(c) for _ in range(BLOCKS)])
        self.fc = nn.Linear(16 * c, 4)
        nn.init.zeros_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        return self.fc(F.avg_pool2d(self.blocks(F.relu(self.stem(x))), 2).flatten(1))


train_loader = DataLoader(TensorDataset(*shapes(2000)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*shapes(400)), batch_size=200)
model = FixupNet()
criterion = nn.CrossEntropyLoss()
scalars = [p for p in model.parameters() if p.numel() == 1]
weights = [p for p in model.parameters() if p.numel() > 1]
optimizer = torch.optim.SGD([{"params": weights}, {"params": scalars, "lr": 0.001}],
                            lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4)


if __name__ == "__main__":
    model.train()
    for epoch in range(20):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
