"""Self-supervised similarity learning on two corrupted views of short multichannel signals."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(50)
t = torch.arange(32) / 32
freq, phase = torch.rand(3000, 3, 1) * 4 + 1, torch.rand(3000, 3, 1) * 6.2832
signals = torch.sin(6.2832 * freq * t + phase) * (0.5 + torch.rand(3000, 3, 1))


class Siamese(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv1d(3, 24, 5, stride=2), nn.BatchNorm1d(24), nn.ReLU(),
                                     nn.Conv1d(24, 32, 5, stride=2), nn.BatchNorm1d(32), nn.ReLU(),
                                     nn.Flatten(), nn.Linear(160, d))
        self.predictor = nn.Sequential(nn.Linear(d, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, d))

    def forward(self, x):
        z = self.encoder(x)
        return z, self.predictor(z)


def corrupt(x):
    scale = 0.7 + 0.6 * torch.rand(len(x), 1, 1)
    return scale * x + 0.2 * torch.randn_like(x)


def training_step(model, batch):
    (x,) = batch
    z1, p1 = model(corrupt(x))
    z2, p2 = model(corrupt(x))
    return 1 - 0.5 * (F.cosine_similarity(p1, z2).mean() + F.cosine_similarity(p2, z1).mean())


train_loader = DataLoader(TensorDataset(signals), batch_size=100, shuffle=True, drop_last=True)
model = Siamese()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


if __name__ == "__main__":
    model.train()
    for epoch in range(20):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
