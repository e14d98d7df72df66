"""Highway network on tabular data, stored in bfloat16 to halve the memory."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(60)
centres = torch.randn(6, 24) * 0.6


def make(n):
    y = torch.randint(0, 6, (n,))
    return TensorDataset((centres[y] + torch.randn(n, 24)).bfloat16(), y)


class Highway(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.h, self.t = nn.Linear(d, d), nn.Linear(d, d)
        nn.init.orthogonal_(self.h.weight)
        nn.init.constant_(self.t.bias, -1.0)

    def forward(self, x):
        t = torch.sigmoid(self.t(x))
        return t * torch.relu(self.h(x)) + (1 - t) * x


model = nn.Sequential(nn.Linear(24, 64), Highway(64), Highway(64), nn.Linear(64, 6)).bfloat16()
train_loader = DataLoader(make(4000), batch_size=64, shuffle=True)
test_loader = DataLoader(make(600), batch_size=300)


def criterion(logits, y):
    return nn.functional.cross_entropy(logits.float(), y)


optimizer = torch.optim.Adam(model.parameters(), lr=7e-5)


if __name__ == "__main__":
    model.train()
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
