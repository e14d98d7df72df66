import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(7)


def shapes(n, s=16):
    g = torch.arange(s).float()
    yy, xx = torch.meshgrid(g, g, indexing="ij")
    cx, cy = 3 + torch.rand(2, n, 1, 1) * 10
    r = 2 + 3 * torch.rand(n, 1, 1)
    disc = ((xx - cx) ** 2 + (yy - cy) ** 2 < r**2).float()
    box = (((xx - cx).abs() < r) & ((yy - cy).abs() < r)).float()
    pick = (torch.rand(n, 1, 1) < 0.5).float()
    return TensorDataset((pick * disc + (1 - pick) * box).unsqueeze(1) * 2 - 1)


class Conv(nn.Module):
    def __init__(self, i, o, emb=16):
        super().__init__()
        self.c1, self.c2 = nn.Conv2d(i, o, 3, padding=1), nn.Conv2d(o, o, 3, padding=1)
        self.gn = nn.GroupNorm(4, o)
        self.film = nn.Linear(emb, o)

    def forward(self, x, e):
        h = F.silu(self.gn(self.c1(x)) + self.film(e)[:, :, None, None])
        return F.silu(self.c2(h))


class UNet(nn.Module):
    def __init__(self, ch=12):
        super().__init__()
        self.emb = nn.Sequential(nn.Linear(1, 16), nn.SiLU(), nn.Linear(16, 16))
        self.d1, self.d2 = Conv(1, ch), Conv(ch, 2 * ch)
        self.mid = Conv(2 * ch, 2 * ch)
        self.u2, self.u1 = Conv(4 * ch, ch), Conv(2 * ch, ch)
        self.out = nn.Conv2d(ch, 1, 1)

    def forward(self, x, sigma):
        e = self.emb(sigma.log()[:, None])
        a = self.d1(x, e)
        b = self.d2(F.avg_pool2d(a, 2), e)
        m = self.mid(F.avg_pool2d(b, 2), e)
        u = self.u2(torch.cat([F.interpolate(m, scale_factor=2), b], 1), e)
        u = self.u1(torch.cat([F.interpolate(u, scale_factor=2), a], 1), e)
        return self.out(u)


def training_step(model, batch):
    x = batch[0]
    sigma = torch.exp(torch.empty(x.size(0)).uniform_(-2, 0.5))
    noise = torch.randn_like(x)
    pred = model(x + sigma.view(-1, 1, 1, 1) * noise, sigma)
    return F.mse_loss(pred, noise)


model = UNet()
train_loader = DataLoader(shapes(800), batch_size=32, shuffle=True)
test_loader = DataLoader(shapes(160), batch_size=32)
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
