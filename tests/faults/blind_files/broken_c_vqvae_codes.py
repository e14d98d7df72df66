import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def make_strokes(n, size=12):
    centre = torch.rand(n, 2, 1, 1) * 8 + 2
    angle = torch.rand(n, 1, 1) * 3.1416
    yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    dx, dy = xx - centre[:, 0], yy - centre[:, 1]
    across = dx * torch.sin(angle) - dy * torch.cos(angle)
    return torch.exp(-across ** 2).unsqueeze(1)


class VectorQuantizer(nn.Module):
    def __init__(self, n_codes=64, dim=8):
        super().__init__()
        self.codebook = nn.Embedding(n_codes, dim)
        nn.init.normal_(self.codebook.weight, std=0.5)

    def forward(self, z):
        b, c, h, w = z.shape
        flat = z.permute(0, 2, 3, 1).reshape(-1, c)
        codes = torch.cdist(flat, self.codebook.weight).argmin(1)
        q = self.codebook(codes)
        codebook_loss = F.mse_loss(q, flat.detach())
        commit_loss = F.mse_loss(flat, q.detach())
        q = q.view(b, h, w, c).permute(0, 3, 1, 2)
        return z + (q - z).detach(), codebook_loss + 0.25 * commit_loss


class VQVAE(nn.Module):
    def __init__(self, dim=8):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, dim, 1))
        self.quantizer = VectorQuantizer(dim=dim)
        self.decoder = nn.Sequential(
            nn.Conv2d(dim, 32, 3, 1, 1), nn.ReLU(), nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(16, 1, 3, 1, 1))

    @torch.no_grad()
    def encode(self, x):
        return self.encoder(2 * x - 1)

    def forward(self, x):
        q, vq_loss = self.quantizer(self.encode(x))
        return self.decoder(q), vq_loss


def training_step(model, batch):
    (x,) = batch
    recon, vq_loss = model(x)
    return F.mse_loss(recon, x) / 0.06 + vq_loss


train_loader = DataLoader(TensorDataset(make_strokes(2048)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(make_strokes(256)), batch_size=64)
model = VQVAE()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
