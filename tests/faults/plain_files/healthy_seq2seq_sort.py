"""Seq2seq with attention: reverse a sequence of digits (teacher forcing)."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
import torch.nn.functional as F

torch.manual_seed(1)
PAD, BOS, EOS, V = 0, 1, 2, 13


class Reverse(Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.src = [torch.randint(3, V, (int(torch.randint(4, 8, (1,), generator=g)),), generator=g) for _ in range(n)]

    def __len__(self):
        return len(self.src)

    def __getitem__(self, i):
        s = self.src[i]
        return s, torch.cat([torch.tensor([BOS]), s.flip(0), torch.tensor([EOS])])


def collate(rows):
    src, tgt = zip(*rows)
    pad = nn.utils.rnn.pad_sequence
    return pad(src, batch_first=True, padding_value=PAD), pad(tgt, batch_first=True, padding_value=PAD)


class Seq2Seq(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.emb = nn.Embedding(V, d, padding_idx=PAD)
        self.encoder = nn.GRU(d, d, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(2 * d, d)
        self.decoder = nn.GRU(d, d, batch_first=True)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(2 * d, V)

    def forward(self, src, tgt_in):
        enc, h = self.encoder(self.emb(src))
        memory = self.bridge(enc)
        h0 = torch.tanh(self.bridge(torch.cat([h[0], h[1]], -1))).unsqueeze(0)
        dec, _ = self.decoder(self.emb(tgt_in), h0)
        score = dec @ memory.transpose(1, 2) / dec.size(-1) ** 0.5
        score = score.masked_fill((src == PAD).unsqueeze(1), float("-inf"))
        ctx = score.softmax(-1) @ memory
        return self.out(self.drop(torch.cat([dec, ctx], -1)))


train_loader = DataLoader(Reverse(4000, 1), batch_size=64, shuffle=True, collate_fn=collate)
test_loader = DataLoader(Reverse(300, 2), batch_size=100, collate_fn=collate)
model = Seq2Seq()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)


def training_step(model, batch):
    src, tgt = batch
    logits = model(src, tgt[:, :-1])
    return F.cross_entropy(logits.transpose(1, 2), tgt[:, 1:], ignore_index=PAD)
