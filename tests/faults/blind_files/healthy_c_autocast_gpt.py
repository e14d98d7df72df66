import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

VOCAB, T = 24, 20


class Loops(Dataset):
    """Sequences that repeat a random motif of 4 tokens; target = next token, the first motif ignored."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        motif = torch.randint(0, VOCAB, (n, 4), generator=g)
        self.ids = motif.repeat(1, 6)[:, :T + 1]

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        y = self.ids[i, 1:].clone()
        y[:3] = -100
        return self.ids[i, :-1], y


class Attention(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.heads, self.qkv, self.proj = heads, nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.register_buffer("allowed", torch.ones(T, T).tril().bool(), persistent=False)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=self.allowed[:t, :t])
        return self.proj(y.transpose(1, 2).reshape(b, t, d))


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.n1, self.n2, self.attn = nn.LayerNorm(d), nn.LayerNorm(d), Attention(d, heads)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x):
        x = x + self.attn(self.n1(x))
        return x + self.mlp(self.n2(x))


class GPT(nn.Module):
    def __init__(self, d=48, heads=3, depth=2):
        super().__init__()
        self.tok, self.pos = nn.Embedding(VOCAB, d), nn.Parameter(torch.zeros(T, d))
        self.blocks, self.norm = nn.Sequential(*[Block(d, heads) for _ in range(depth)]), nn.LayerNorm(d)
        self.head = nn.Linear(d, VOCAB, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.normal_(self.pos, std=0.5)

    def forward(self, ids):
        return self.head(self.norm(self.blocks(self.tok(ids) + self.pos[:ids.size(1)])))


def training_step(model, batch):
    ids, y = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(ids)
    return F.cross_entropy(logits.float().flatten(0, 1), y.flatten())


torch.manual_seed(0)
train_loader = DataLoader(Loops(4000, 0), batch_size=32, shuffle=True)
test_loader = DataLoader(Loops(300, 1), batch_size=100)
model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
