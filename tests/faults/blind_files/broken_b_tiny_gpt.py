import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import Dataset, DataLoader

torch.manual_seed(1)
names = ["anna", "boris", "clara", "dmitri", "elena", "fedor", "galina"]
verbs = ["likes", "meets", "calls", "paints", "helps"]
text = " ".join(
    f"{names[i]} {verbs[j]} {names[k]}."
    for i, j, k in torch.stack([torch.randint(0, 7, (900,)), torch.randint(0, 5, (900,)),
                                torch.randint(0, 7, (900,))], 1).tolist())
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])
BLOCK = 32


class CharDataset(Dataset):
    def __len__(self):
        return (len(data) - 1) // BLOCK - 1

    def __getitem__(self, i):
        chunk = data[i * BLOCK:(i + 1) * BLOCK + 1]
        return chunk[:-1], chunk[1:]


def causal_mask(size):
    return torch.triu(torch.ones(size, size, dtype=torch.bool), diagonal=2)


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attn = nn.MultiheadAttention(d, heads, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x, mask):
        h = self.ln1(x)
        x = x + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self, vocab, d=48):
        super().__init__()
        self.tok = nn.Embedding(vocab, d)
        self.pos = nn.Embedding(BLOCK, d)
        self.blocks = nn.ModuleList([Block(d, 4) for _ in range(2)])
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, vocab)
        self.register_buffer("mask", causal_mask(BLOCK))

    def forward(self, idx):
        t = idx.size(1)
        x = self.tok(idx) + self.pos(torch.arange(t))
        for block in self.blocks:
            x = block(x, self.mask[:t, :t])
        return self.head(self.norm(x))


def loss_fn(logits, targets):
    return F.cross_entropy(logits.reshape(-1, logits.size(-1)), targets.reshape(-1))


train_loader = DataLoader(CharDataset(), batch_size=32, shuffle=True)
model = GPT(len(chars))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

if __name__ == "__main__":
    for epoch in range(10):
        for xb, yb in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
