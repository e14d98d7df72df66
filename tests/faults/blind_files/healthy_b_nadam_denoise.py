import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(102)


class Dots(Dataset):
    """pictures between 0 and 1"""

    def __init__(self, n, s=14):
        self.s = s
        self.c = torch.rand(n, 3, 2) * (s - 4) + 2

    def __len__(self):
        return len(self.c)

    def __getitem__(self, i):
        g = torch.arange(self.s).float()
        img = torch.zeros(self.s, self.s)
        for cy, cx in self.c[i]:
            img = torch.maximum(img, torch.exp(-((g[:, None] - cy) ** 2 + (g[None] - cx) ** 2) / 3))
        return img.unsqueeze(0)


class DenoisingAE(nn.Module):
    def __init__(self, noise=0.2):
        super().__init__()
        self.noise = noise
        self.enc = nn.Sequential(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ELU(),
                                 nn.Conv2d(16, 24, 3, padding=1), nn.ELU())
        self.dec = nn.Sequential(nn.ConvTranspose2d(24, 16, 4, stride=2, padding=1), nn.ELU(),
                                 nn.Conv2d(16, 1, 3, padding=1), nn.Sigmoid())

    def forward(self, x):
        if self.training:
            x = x + self.noise * torch.randn_like(x)
        return self.dec(self.enc(x))


def training_step(model, batch):
    out = model(batch)
    return nn.functional.binary_cross_entropy(out, batch, reduction="sum") / batch.shape[0]


train_loader = DataLoader(Dots(640), batch_size=32, shuffle=True)
test_loader = DataLoader(Dots(64), batch_size=32)
model = DenoisingAE()
optimizer = torch.optim.NAdam(model.parameters(), lr=3e-3)

if __name__ == "__main__":
    for epoch in range(5):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
