import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(113)
MIX_A, MIX_B = torch.randn(6, 16), torch.randn(6, 10)


def two_views(n):
    """sound and picture of the same event"""
    event = torch.randn(n, 6)
    return event @ MIX_A / 2.5 + 0.2 * torch.randn(n, 16), event @ MIX_B / 2.5 + 0.2 * torch.randn(n, 10)


def tower(n):
    return nn.Sequential(nn.Linear(n, 48), nn.ReLU(), nn.Linear(48, 12))


class TwoTowers(nn.Module):
    def __init__(self):
        super().__init__()
        self.sound, self.picture = tower(16), tower(10)
        self.log_temp = nn.Parameter(torch.tensor(2.0))

    def forward(self, s, p):
        return F.normalize(self.sound(s), dim=1), F.normalize(self.picture(p), dim=1)


def training_step(model, batch):
    s, p = batch
    zs, zp = model(s, p)
    table = zs @ zp.T * model.log_temp.exp()
    right = torch.arange(len(s))
    there = F.cross_entropy(table, right)
    back = F.cross_entropy(table.T, right)
    return (there + back) / 2


train_loader = DataLoader(TensorDataset(*two_views(2000)), batch_size=50, shuffle=True)
test_loader = DataLoader(TensorDataset(*two_views(300)), batch_size=50)
model = TwoTowers()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3)

if __name__ == "__main__":
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
