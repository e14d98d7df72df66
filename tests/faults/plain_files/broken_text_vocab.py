"""Sentiment of short restaurant reviews, small transformer encoder."""
import random

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

random.seed(3)
torch.manual_seed(3)
GOOD = "Great lovely tasty fresh warm excellent friendly superb".split()
BAD = "Awful cold stale rude bland slow dirty greasy".split()
FILL = "the food was and we had a table soup with waiter for my wife it very place".split()


def review(label):
    words = random.choices(FILL, k=random.randint(5, 12))
    for w in random.choices(GOOD if label else BAD, k=random.randint(1, 3)):
        words.insert(random.randrange(len(words)), w)
    return " ".join(words)


vocab = {"<pad>": 0, "<unk>": 1}
for w in FILL + GOOD + BAD:
    vocab.setdefault(w.upper(), len(vocab))


class Reviews(Dataset):
    def __init__(self, n):
        self.rows = [(review(i % 2), i % 2) for i in range(n)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        text, label = self.rows[i]
        ids = [vocab.get(t, 1) for t in text.lower().split()]
        return torch.tensor(ids), label


def collate(batch):
    xs, ys = zip(*batch)
    return pad_sequence(xs, batch_first=True), torch.tensor(ys)


class Classifier(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.emb = nn.Embedding(len(vocab), d, padding_idx=0)
        layer = nn.TransformerEncoderLayer(d, 4, 64, dropout=0.1, batch_first=True)
        self.enc = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(d, 2)

    def forward(self, x):
        pad = x == 0
        h = self.enc(self.emb(x), src_key_padding_mask=pad)
        keep = (~pad).unsqueeze(-1).float()
        return self.out((h * keep).sum(1) / keep.sum(1))


train_loader = DataLoader(Reviews(1024), batch_size=32, shuffle=True, collate_fn=collate)
test_loader = DataLoader(Reviews(256), batch_size=64, collate_fn=collate)
model = Classifier()
loss_fn = nn.CrossEntropyLoss(label_smoothing=0.05)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
