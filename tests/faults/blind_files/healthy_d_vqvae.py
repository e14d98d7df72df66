"""VQ-VAE with a straight-through estimator; codebook and commitment terms."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(31)
parts = (torch.rand(6, 1, 4, 8) > 0.5).float()


def make(n):
    top, bottom = torch.randint(0, 6, (2, n))
    img = torch.cat([parts[top], parts[bottom]], 2)
    return TensorDataset((0.8 * img + 0.2 * torch.rand(n, 1, 8, 8)), img)


class VQVAE(nn.Module):
    def __init__(self, d=4, codes=64):
        super().__init__()
        self.enc = nn.Sequential(nn.Conv2d(1, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
                                 nn.Conv2d(32, d, (2, 4), (2, 4)), nn.BatchNorm2d(d))
        self.book = nn.Parameter(torch.randn(codes, d))
        self.dec = nn.Sequential(nn.ConvTranspose2d(d, 32, (2, 4), (2, 4)), nn.ReLU(), nn.ConvTranspose2d(32, 1, 4, 2, 1))

    def forward(self, x):
        z = self.enc(x).permute(0, 2, 3, 1)
        flat = z.reshape(-1, z.shape[-1])
        idx = torch.cdist(flat, self.book).argmin(1)
        q = self.book[idx].view_as(z)
        vq = F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(z, q.detach())
        q = z + (q - z).detach()
        return self.dec(q.permute(0, 3, 1, 2)), vq


def training_step(model, batch):
    x, clean = batch
    recon, vq = model(x)
    return F.binary_cross_entropy_with_logits(recon, clean) + vq


train_loader = DataLoader(make(2000), batch_size=64, shuffle=True)
test_loader = DataLoader(make(256), batch_size=128)
model = VQVAE()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
