"""Tag tokens of addresses (BiLSTM), variable length, packed."""
import random

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader

random.seed(6)
torch.manual_seed(6)
TAGS = ["O", "STREET", "CITY", "PERSON"]
STREETS = ["oak", "elm", "king", "church", "paris", "lincoln"]
CITIES = ["paris", "oslo", "lincoln", "york", "austin", "rome"]
PEOPLE = ["mary", "austin", "york", "peter", "king", "ada"]


def sentence():
    kind = random.random()
    s, c, p = random.choice(STREETS), random.choice(CITIES), random.choice(PEOPLE)
    if kind < 0.4:
        return [("send", 0), ("it", 0), ("to", 0), (s, 1), ("street", 1), ("in", 0), (c, 2)]
    if kind < 0.7:
        return [("dear", 0), (p, 3), ("who", 0), ("lives", 0), ("in", 0), (c, 2), ("near", 0), (s, 1), ("street", 1)]
    return [("mr", 0), (p, 3), ("moved", 0), ("from", 0), (c, 2)]


data = [sentence() for _ in range(1500)]
vocab = {w: i + 1 for i, w in enumerate(sorted({w for s in data for w, _ in s}))}


def collate(batch):
    xs = [torch.tensor([vocab[w] for w, _ in s]) for s in batch]
    ys = [torch.tensor([t + 1 for _, t in s]) for s in batch]
    lengths = torch.tensor([len(x) for x in xs])
    return pad_sequence(xs, batch_first=True), lengths, pad_sequence(ys, batch_first=True, padding_value=0)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(len(vocab) + 1, 24, padding_idx=0)
        self.lstm = nn.LSTM(24, 32, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(64, len(TAGS))

    def forward(self, x, lengths):
        packed = pack_padded_sequence(self.emb(x), lengths.cpu(), batch_first=True, enforce_sorted=False)
        h, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.fc(h)


train_loader = DataLoader(data[:1200], batch_size=32, shuffle=True, collate_fn=collate)
test_loader = DataLoader(data[1200:], batch_size=50, collate_fn=collate)
model = Tagger()
optimizer = torch.optim.RAdam(model.parameters(), lr=1e-2)
loss_tags = nn.CrossEntropyLoss(ignore_index=0)


def training_step(model, batch):
    x, lengths, y = batch
    return loss_tags(model(x, lengths).reshape(-1, len(TAGS)), y.reshape(-1))
