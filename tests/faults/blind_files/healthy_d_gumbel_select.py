"""Concrete feature selection: Gumbel-softmax picks 4 of 20 sensors, a small net predicts from them."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(32)


def make(n):
    x = torch.randn(n, 20)
    y = x[:, 3] - x[:, 7] + 0.8 * x[:, 11] + 0.5 * torch.tanh(2 * x[:, 16])
    return TensorDataset(x, ((y + 0.05 * torch.randn(n)) / 1.75).unsqueeze(1))


class Selector(nn.Module):
    def __init__(self, n=20, k=4):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(k, n) * 0.01)
        self.net = nn.Sequential(nn.Linear(k, 48), nn.ReLU(), nn.Linear(48, 1))

    def forward(self, x):
        if self.training:
            pick = F.gumbel_softmax(self.logits, tau=0.7)
        else:
            pick = F.one_hot(self.logits.argmax(1), x.shape[1]).float()
        return self.net(x @ pick.T)


train_loader = DataLoader(make(5000), batch_size=64, shuffle=True)
model = Selector()
criterion = nn.MSELoss()
optimizer = torch.optim.Adam([{"params": [model.logits], "lr": 0.05}, {"params": model.net.parameters()}], lr=3e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
