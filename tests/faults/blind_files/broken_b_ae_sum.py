import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader

torch.manual_seed(15)


def blobs(n, size=16):
    yy, xx = torch.meshgrid(torch.arange(size).float(), torch.arange(size).float(), indexing="ij")
    c = torch.rand(n, 2) * 10 + 3
    r = 1.5 + 2 * torch.rand(n)
    d = (yy - c[:, :1, None]) ** 2 + (xx - c[:, 1:, None]) ** 2
    return torch.exp(-d / (2 * r[:, None, None] ** 2)).flatten(1)


class AutoEncoder(nn.Module):
    def __init__(self, n_in=256, code=8):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(n_in, 96), nn.ReLU(), nn.Linear(96, code))
        self.dec = nn.Sequential(nn.Linear(code, 96), nn.ReLU(), nn.Linear(96, n_in))

    def forward(self, x):
        return self.dec(self.enc(x))


class ReconstructionLoss:
    def __init__(self, kind="l2", reduction="sum"):
        self.f = {"l2": F.mse_loss, "l1": F.l1_loss}[kind]
        self.reduction = reduction

    def __call__(self, out, x):
        return self.f(out, x, reduction=self.reduction)


rec = ReconstructionLoss()


def training_step(model, batch):
    return rec(model(batch), batch)


data = blobs(1500)
train_loader = DataLoader(data[:1280], batch_size=64, shuffle=True)
test_loader = DataLoader(data[1280:], batch_size=110)
model = AutoEncoder()
optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)

if __name__ == "__main__":
    for epoch in range(20):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
