"""SimSiam on two corrupted views of a latent code; stop-gradient and predictor, no negatives."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(30)
mix = torch.randn(8, 48) / 8 ** 0.5
data = torch.tanh(torch.randn(4000, 8) @ mix * 1.5)


class SimSiam(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(48, 96, bias=False), nn.BatchNorm1d(96), nn.ReLU(),
                                     nn.Linear(96, d, bias=False), nn.BatchNorm1d(d, affine=False))
        self.predictor = nn.Sequential(nn.Linear(d, 16, bias=False), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, d))

    def forward(self, x):
        z = self.encoder(x)
        return z, self.predictor(z)


def view(x):
    keep = (torch.rand_like(x) > 0.3).float()
    return x * keep + 0.15 * torch.randn_like(x)


def training_step(model, batch):
    (x,) = batch
    (z1, p1), (z2, p2) = model(view(x)), model(view(x))
    return -0.5 * (F.cosine_similarity(p1, z2.detach()).mean() + F.cosine_similarity(p2, z1.detach()).mean())


train_loader = DataLoader(TensorDataset(data), batch_size=128, shuffle=True, drop_last=True)
model = SimSiam()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)


if __name__ == "__main__":
    model.train()
    for epoch in range(20):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
