"""Restores noisy low-contrast textures: every image has its own contrast, so InstanceNorm."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(8)


def textures(n, s=20):
    base = F.interpolate(torch.randn(n, 1, 5, 5), size=s, mode="bicubic", align_corners=False)
    clean = torch.tanh(2 * base)
    contrast = torch.empty(n, 1, 1, 1).uniform_(0.1, 0.5)
    return 0.5 + contrast * (clean + 0.5 * torch.randn_like(clean)), clean


class Restorer(nn.Module):
    def __init__(self, c=24):
        super().__init__()
        self.norm0 = nn.InstanceNorm2d(1)
        self.net = nn.Sequential(
            nn.Conv2d(1, c, 5, padding=2, padding_mode="reflect", bias=False), nn.InstanceNorm2d(c, affine=True), nn.PReLU(c),
            nn.Conv2d(c, c, 3, padding=2, dilation=2, padding_mode="reflect", bias=False), nn.InstanceNorm2d(c, affine=True), nn.PReLU(c),
            nn.Conv2d(c, 1, 3, padding=1, padding_mode="reflect"))

    def forward(self, x):
        return torch.tanh(self.net(self.norm0(x)))


train_loader = DataLoader(TensorDataset(*textures(600)), batch_size=16, shuffle=True)
test_loader = DataLoader(TensorDataset(*textures(100)), batch_size=50)
model = Restorer()
criterion = nn.L1Loss()
optimizer = torch.optim.RAdam(model.parameters(), lr=5e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
