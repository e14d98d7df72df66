"""Two-headed patient model: diagnosis (3 classes) and length of stay (regression)."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(11)
FEATS = 15
proj = torch.randn(FEATS, 6) / FEATS**0.5


def cohort(n):
    x = torch.randn(n, FEATS)
    z = torch.tanh(2 * x @ proj)
    dx = torch.stack([z[:, 0] * z[:, 1] * 2, z[:, 2], z[:, 3] - z[:, 0]], 1) + 0.1 * torch.randn(n, 3)
    stay = z[:, 4] * z[:, 5] + 0.7 * z[:, 1] + 0.1 * torch.randn(n)
    known = torch.rand(n) > 0.12
    stay[~known] = -999.0
    return TensorDataset(x, dx.argmax(1), stay)


class TwoHeads(nn.Module):
    def __init__(self, h=64):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(FEATS, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU())
        self.diagnosis = nn.Linear(h, 3)
        self.stay = nn.Sequential(nn.Linear(h, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        h = self.trunk(x)
        return self.diagnosis(h), self.stay(h).squeeze(-1)


def training_step(model, batch):
    x, dx, stay = batch
    logits, pred = model(x)
    known = stay > -900
    reg = F.mse_loss(pred[known], stay[known])
    return F.cross_entropy(logits, dx) + reg


model = TwoHeads()
train_loader = DataLoader(cohort(3000), batch_size=64, shuffle=True)
test_loader = DataLoader(cohort(500), batch_size=100)
optimizer = torch.optim.Adam(
    [{"params": model.trunk.parameters()}, {"params": model.diagnosis.parameters(), "lr": 4e-3}], lr=2e-3
)

if __name__ == "__main__":
    for epoch in range(10):
        total = 0.0
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(epoch, total / len(train_loader))
