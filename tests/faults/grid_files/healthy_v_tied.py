"""Character language model on toy sentences."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

random.seed(0)
torch.manual_seed(0)

subjects = ["the cat", "a dog", "my aunt", "the old man", "one bird"]
verbs = ["sees", "likes", "paints", "follows", "hears"]
objects = ["the moon", "a red car", "the river", "some bread", "no one"]
text = "".join(
    f"{random.choice(subjects)} {random.choice(verbs)} {random.choice(objects)}. " for _ in range(1500)
)
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
ids = torch.tensor([stoi[c] for c in text])
V, BLOCK = len(chars), 32


class CharDataset(Dataset):
    def __init__(self, ids):
        self.ids = ids

    def __len__(self):
        return (len(self.ids) - 1) // BLOCK

    def __getitem__(self, i):
        chunk = self.ids[i * BLOCK:i * BLOCK + BLOCK + 1]
        return chunk[:-1], chunk[1:]


split = int(0.9 * len(ids))
train_loader = DataLoader(CharDataset(ids[:split]), batch_size=32, shuffle=True)
test_loader = DataLoader(CharDataset(ids[split:]), batch_size=32)


class CharLM(nn.Module):
    def __init__(self, dim=64, heads=4, depth=2):
        super().__init__()
        self.tok = nn.Embedding(V, dim)
        self.pos = nn.Embedding(BLOCK, dim)
        layer = nn.TransformerEncoderLayer(
            dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, V, bias=False)
        nn.init.normal_(self.tok.weight, std=0.02)
        nn.init.normal_(self.pos.weight, std=0.02)
        self.head.weight = self.tok.weight

    def forward(self, idx):
        t = idx.size(1)
        mask = torch.triu(torch.ones(t, t, dtype=torch.bool), diagonal=1)
        h = self.tok(idx) + self.pos(torch.arange(t))
        h = self.encoder(h, mask=mask)
        return self.head(self.norm(h))


model = CharLM()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)


def training_step(model, batch):
    x, y = batch
    logits = model(x)
    loss = F.cross_entropy(logits.reshape(-1, V), y.reshape(-1))
    return loss
