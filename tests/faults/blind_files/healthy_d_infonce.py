"""Two-tower contrastive learning (InfoNCE, learned temperature): pair a bag of words with a signal."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(28)
LAT = 6
A, B = torch.randn(LAT, 40), torch.randn(LAT, 24)


def make(n):
    z = torch.randn(n, LAT)
    bag = torch.poisson(torch.exp(0.6 * z @ A / LAT ** 0.5 - 0.2))
    return TensorDataset(bag, torch.tanh(z @ B) + 0.2 * torch.randn(n, 24))


def tower(n_in, d=32):
    return nn.Sequential(nn.Linear(n_in, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, d))


class TwoTower(nn.Module):
    def __init__(self):
        super().__init__()
        self.text, self.signal = tower(40), tower(24)
        self.log_scale = nn.Parameter(torch.tensor(1.6))

    def forward(self, bag, sig):
        a = F.normalize(self.text(bag.log1p()), dim=1)
        b = F.normalize(self.signal(sig), dim=1)
        return self.log_scale.clamp(max=4.6).exp() * a @ b.T


def training_step(model, batch):
    logits = model(*batch)
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


train_loader = DataLoader(make(6000), batch_size=128, shuffle=True, drop_last=True)
test_loader = DataLoader(make(512), batch_size=128, drop_last=True)
model = TwoTower()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)


if __name__ == "__main__":
    model.train()
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
