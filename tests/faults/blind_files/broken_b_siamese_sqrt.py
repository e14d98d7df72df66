import random
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

random.seed(16)
torch.manual_seed(16)
CENTERS = torch.randn(8, 20)


class Pairs(Dataset):
    """two 'face codes' and whether they show the same person"""

    def __init__(self, n_photos=160, n_pairs=2000):
        self.who = [i % 8 for i in range(n_photos)]
        self.photo = [CENTERS[w] + 0.7 * torch.randn(20) for w in self.who]
        self.pairs = [self.pick() for _ in range(n_pairs)]

    def pick(self):
        i = random.randrange(len(self.photo))
        if random.random() < 0.5:
            j = random.choice([k for k, w in enumerate(self.who) if w == self.who[i]])
        else:
            j = random.choice([k for k, w in enumerate(self.who) if w != self.who[i]])
        return i, j

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, k):
        i, j = self.pairs[k]
        return self.photo[i], self.photo[j], float(self.who[i] == self.who[j])


class Embedder(nn.Module):
    def __init__(self, out=16):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, out))

    def forward(self, a, b):
        return self.net(a), self.net(b)


def distance(u, v):
    return torch.sqrt(((u - v) ** 2).sum(dim=1))


def contrastive(u, v, same, margin=1.0):
    d = distance(u, v)
    return (same * d + (1 - same) * torch.relu(margin - d)).mean()


def training_step(model, batch):
    a, b, same = batch
    u, v = model(a, b)
    return contrastive(u, v, same.float())


train_loader = DataLoader(Pairs(), batch_size=64, shuffle=True)
model = Embedder()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

if __name__ == "__main__":
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
