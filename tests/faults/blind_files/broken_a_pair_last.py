"""Sentence-pair classifier: same topic / opposite stance / unrelated."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(21)
TOPICS, WORDS, PAD, MAXLEN = 5, 6, 0, 60
V = 1 + TOPICS * 2 * WORDS + 20


def sentence(topic, stance):
    n = int(torch.randint(6, 11, (1,)))
    base = 1 + (topic * 2 + stance) * WORDS
    words = base + torch.randint(0, WORDS, (n,))
    filler = torch.rand(n) < 0.3
    words[filler] = V - 20 + torch.randint(0, 20, (int(filler.sum()),))
    return F.pad(words, (0, MAXLEN - n), value=PAD)


def corpus(n):
    a, b, y = [], [], []
    for _ in range(n):
        lab = int(torch.randint(0, 3, (1,)))
        t, s = int(torch.randint(0, TOPICS, (1,))), int(torch.randint(0, 2, (1,)))
        other = (t + int(torch.randint(1, TOPICS, (1,)))) % TOPICS
        a.append(sentence(t, s))
        b.append(sentence(t, s) if lab == 0 else sentence(t, 1 - s) if lab == 1 else sentence(other, s))
        y.append(lab)
    return TensorDataset(torch.stack(a), torch.stack(b), torch.tensor(y))


class PairNet(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.emb = nn.Embedding(V, d, padding_idx=PAD)
        self.rnn = nn.RNN(d, d, batch_first=True)
        self.cls = nn.Sequential(nn.Linear(4 * d, 64), nn.ReLU(), nn.Linear(64, 3))

    def encode(self, ids):
        out, _ = self.rnn(self.emb(ids))
        return out[:, -1]

    def forward(self, a, b):
        u = self.encode(a)
        v = self.encode(b)
        return self.cls(torch.cat([u, v, (u - v).abs(), u * v], 1))


model = PairNet()
train_loader = DataLoader(corpus(2400), batch_size=48, shuffle=True)
test_loader = DataLoader(corpus(300), batch_size=100)
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)


def training_step(model, batch):
    a, b, y = batch
    return F.cross_entropy(model(a, b), y)
