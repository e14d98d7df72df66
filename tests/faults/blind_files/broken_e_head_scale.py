import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(24)


def xavier_like(m):
    if isinstance(m, nn.Linear):
        nn.init.xavier_uniform_(m.weight)
        nn.init.zeros_(m.bias)


class ClassHead(nn.Module):
    def __init__(self, dim, classes):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.prototypes = nn.Parameter(torch.empty(classes, dim).normal_(0, 10.0))

    def forward(self, h):
        return self.norm(h) @ self.prototypes.t()


class TextNet(nn.Module):
    """mean of word vectors -> two layers -> class prototypes"""

    def __init__(self, vocab=60, dim=32, classes=12):
        super().__init__()
        self.words = nn.EmbeddingBag(vocab, dim, mode="mean")
        self.mlp = nn.Sequential(nn.Linear(dim, 64), nn.ReLU(), nn.Linear(64, dim))
        self.head = ClassHead(dim, classes)

    def forward(self, ids):
        return self.head(self.mlp(self.words(ids)))


def intents(n, length=10):
    y = torch.randint(0, 12, (n,))
    topic = y[:, None] * 5 + torch.randint(0, 5, (n, length))
    other = torch.randint(0, 60, (n, length))
    return torch.where(torch.rand(n, length) < 0.5, topic, other), y


train_loader = DataLoader(TensorDataset(*intents(1800)), batch_size=60, shuffle=True)
test_loader = DataLoader(TensorDataset(*intents(400)), batch_size=100)
model = TextNet()
model.apply(xavier_like)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

if __name__ == "__main__":
    for epoch in range(10):
        for ids, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(ids), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
