"""Character-level GPT on nursery-rhyme-like text."""
import random

import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(0)
random.seed(0)
names = ["jack", "jill", "mary", "humpty", "georgie", "peter"]
verbs = ["went up", "fell down", "sat on", "ran to", "looked at"]
things = ["the hill", "the wall", "a pail", "the lamb", "a pumpkin"]
text = " ".join(f"{random.choice(names)} {random.choice(verbs)} {random.choice(things)}." for _ in range(900))
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
ids = torch.tensor([stoi[c] for c in text])
T = 32


class Windows(Dataset):
    def __init__(self, data):
        self.data = data

    def __len__(self):
        return (len(self.data) - T - 1) // 4

    def __getitem__(self, i):
        s = i * 4
        return self.data[s:s + T], self.data[s + 1:s + T + 1]


class Block(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        self.h = h

    def forward(self, x):
        B, L, D = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(B, L, 3, self.h, D // self.h).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(a.transpose(1, 2).reshape(B, L, D))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self, d=48, layers=2):
        super().__init__()
        self.tok, self.pos = nn.Embedding(len(chars), d), nn.Embedding(T, d)
        self.blocks = nn.Sequential(*[Block(d, 4) for _ in range(layers)])
        self.head = nn.Linear(d, len(chars))

    def forward(self, x):
        h = self.tok(x) + self.pos(torch.arange(x.size(1), device=x.device))
        return self.head(self.blocks(h))


split = int(0.9 * len(ids))
train_loader = DataLoader(Windows(ids[:split]), batch_size=32, shuffle=True, drop_last=True)
test_loader = DataLoader(Windows(ids[split:]), batch_size=32)
model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)


def training_step(model, batch):
    x, y = batch
    logits = model(x)
    return F.cross_entropy(logits.flatten(0, 1), y.flatten())
