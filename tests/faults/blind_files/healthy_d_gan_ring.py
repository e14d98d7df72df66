"""Spectral-norm GAN on a shifted 2-d crescent; both players in one step, hinge loss."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm as sn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(5)
a = torch.rand(6000) * 3.14159
real = torch.stack([torch.cos(a), torch.sin(a)], 1) * 1.5 + torch.tensor([1.0, -0.5]) + 0.08 * torch.randn(6000, 2)


class Gan(nn.Module):
    def __init__(self):
        super().__init__()
        self.g = nn.Sequential(nn.Linear(8, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
        self.d = nn.Sequential(sn(nn.Linear(2, 64)), nn.LeakyReLU(0.2), sn(nn.Linear(64, 64)), nn.LeakyReLU(0.2), nn.Linear(64, 1, bias=False))

    def forward(self, z):
        return self.g(z)


def training_step(model, batch):
    (x,) = batch
    fake = model(torch.randn(len(x), 8, device=x.device))
    d_loss = F.relu(1 - model.d(x)).mean() + F.relu(1 + model.d(fake.detach())).mean()
    frozen = {k: p.detach() for k, p in model.d.named_parameters()}
    g_loss = -functional_call(model.d, frozen, (fake,)).mean()
    return d_loss + g_loss


train_loader = DataLoader(TensorDataset(real), batch_size=128, shuffle=True, drop_last=True)
model = Gan()
optimizer = torch.optim.Adam([{"params": model.g.parameters(), "lr": 5e-4},
                              {"params": model.d.parameters(), "lr": 2e-3}], betas=(0.0, 0.9))


if __name__ == "__main__":
    model.train()
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
