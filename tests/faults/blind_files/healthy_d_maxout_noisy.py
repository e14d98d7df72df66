"""Maxout network on labels of which a fifth are flipped: generalised cross-entropy."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(10)
centres = torch.randn(6, 12) * 1.3


def make(n, flip):
    y = torch.randint(0, 6, (n,))
    x = centres[y] + torch.randn(n, 12)
    wrong = torch.rand(n) < flip
    return TensorDataset(x, torch.where(wrong, torch.randint(0, 6, (n,)), y))


class Maxout(nn.Module):
    def __init__(self, i, o, pieces=3):
        super().__init__()
        self.o, self.pieces = o, pieces
        self.lin = nn.Linear(i, o * pieces)

    def forward(self, x):
        return self.lin(x).view(-1, self.o, self.pieces).amax(-1)


def loss_fn(logits, y, q=0.5):
    p = logits.softmax(-1).gather(1, y[:, None]).squeeze(1)
    return ((1 - p.pow(q)) / q).mean()


train_loader = DataLoader(make(3000, 0.2), batch_size=50, shuffle=True)
test_loader = DataLoader(make(600, 0.0), batch_size=200)
model = nn.Sequential(Maxout(12, 32), nn.Dropout(0.2), Maxout(32, 32), nn.Dropout(0.2), nn.Linear(32, 6))
optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)


if __name__ == "__main__":
    model.train()
    for epoch in range(20):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
