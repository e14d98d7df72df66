"""Segmentation of blobs with batches of two and GroupNorm; soft dice plus BCE."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(7)


def blobs(n, s=24):
    g = torch.arange(s).float()
    mask = torch.zeros(n, s, s)
    for _ in range(3):
        cy, cx = torch.randint(4, s - 4, (2, n, 1, 1)).float()
        rad = torch.empty(n, 1, 1).uniform_(2.5, 4.5)
        mask = torch.maximum(mask, (((g.view(1, s, 1) - cy) ** 2 + (g.view(1, 1, s) - cx) ** 2) < rad ** 2).float())
    return (0.5 * mask + 0.6 * torch.rand(n, s, s)).unsqueeze(1), mask.unsqueeze(1)


def block(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.GroupNorm(4, o), nn.SiLU(),
                         nn.Conv2d(o, o, 3, padding=1), nn.GroupNorm(4, o), nn.SiLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.e1, self.e2, self.mid = block(1, 8), block(8, 16), block(16, 16)
        self.u2, self.u1 = block(32, 8), block(16, 8)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        a = self.e1(x)
        b = self.e2(F.max_pool2d(a, 2))
        c = self.mid(F.max_pool2d(b, 2))
        b = self.u2(torch.cat([F.interpolate(c, scale_factor=2), b], 1))
        return self.out(self.u1(torch.cat([F.interpolate(b, scale_factor=2), a], 1)))


def loss_fn(logits, mask):
    p = logits.sigmoid()
    dice = 1 - (2 * (p * mask).sum((1, 2, 3)) + 1) / (p.sum((1, 2, 3)) + mask.sum((1, 2, 3)) + 1)
    return F.binary_cross_entropy_with_logits(logits, mask) + dice.mean()


train_loader = DataLoader(TensorDataset(*blobs(400)), batch_size=2, shuffle=True)
test_loader = DataLoader(TensorDataset(*blobs(40)), batch_size=4)
model = UNet()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, nesterov=True)


if __name__ == "__main__":
    model.train()
    for epoch in range(5):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
