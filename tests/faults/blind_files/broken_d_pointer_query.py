"""Attention pointer: at which position of the sequence does the queried key occur?"""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(51)
L, V = 12, 24


def make(n):
    keys = torch.rand(n, V).argsort(1)[:, :L]
    pos = torch.randint(0, L, (n,))
    return TensorDataset(torch.cat([keys, keys[torch.arange(n), pos].unsqueeze(1)], 1), pos)


class Pointer(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.emb = nn.Embedding(V, d)
        self.enc = nn.GRU(d, d, batch_first=True, bidirectional=True)
        self.key, self.query = nn.Linear(2 * d, d), nn.Linear(d, d)

    def forward(self, x):
        e = self.emb(x)
        mem, _ = self.enc(e[:, :-1])
        q = self.query(e[:, -1])
        score = torch.einsum("bld,bd->bl", self.key(mem), q) / q.shape[1] ** 0.5
        return score.softmax(dim=1)


train_loader = DataLoader(make(4000), batch_size=64, shuffle=True)
test_loader = DataLoader(make(500), batch_size=250)
model = Pointer()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
