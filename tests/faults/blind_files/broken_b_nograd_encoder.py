import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(35)


class QueryEncoder(nn.Module):
    def __init__(self, vocab=50, dim=24):
        super().__init__()
        self.emb = nn.Embedding(vocab, dim)
        self.proj = nn.Sequential(nn.Linear(dim, 32), nn.ReLU(), nn.Linear(32, 16))

    @torch.no_grad()
    def encode(self, ids):
        return self.proj(self.emb(ids).mean(1))

    def forward(self, ids):
        return self.encode(ids)


class Ranker(nn.Module):
    """scores two documents for a query"""

    def __init__(self):
        super().__init__()
        self.encoder = QueryEncoder()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def score(self, q, d):
        return self.scale * (self.encoder(q) * self.encoder(d)).sum(1)

    def forward(self, q, good, bad):
        return self.score(q, good), self.score(q, bad)


def words(topic, n):
    own = topic[:, None] * 5 + torch.randint(0, 5, (len(topic), n))
    noise = torch.randint(0, 50, own.shape)
    return torch.where(torch.rand(own.shape) < 0.6, own, noise)


def triples(n):
    t = torch.randint(0, 10, (n,))
    other = (t + torch.randint(1, 10, (n,))) % 10
    return words(t, 5), words(t, 12), words(other, 12)


def training_step(model, batch):
    q, good, bad = batch
    s_good, s_bad = model(q, good, bad)
    return nn.functional.softplus(s_bad - s_good).mean()


train_loader = DataLoader(TensorDataset(*triples(2000)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*triples(300)), batch_size=100)
model = Ranker()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

if __name__ == "__main__":
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
