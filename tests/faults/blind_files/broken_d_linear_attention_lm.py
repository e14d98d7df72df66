"""Linear-attention language model over a noisy grammar of twelve symbols."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(55)
V, T = 12, 20
table = torch.rand(V, V).mul(4).softmax(1)


def make(n):
    seq = [torch.randint(0, V, (n,))]
    for _ in range(T):
        seq.append(torch.multinomial(table[seq[-1]], 1).squeeze(1))
    s = torch.stack(seq, 1)
    return TensorDataset(s[:, :-1], s[:, 1:])


class LinearAttention(nn.Module):
    def __init__(self, d, heads=4):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = F.elu(2 * q) + 1, F.elu(2 * k) + 1
        memory = torch.einsum("bhtk,bhtv->bhkv", k, v)
        norm = torch.einsum("bhtk,bhk->bht", q, k.sum(2))
        y = torch.einsum("bhtk,bhkv->bhtv", q, memory) / norm.unsqueeze(-1)
        return self.out(y.transpose(1, 2).reshape(b, t, d))


class LM(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.emb, self.pos = nn.Embedding(V, d), nn.Parameter(torch.randn(T, d) * 0.5)
        self.attn = nn.ModuleList([LinearAttention(d) for _ in range(2)])
        self.ff = nn.ModuleList([nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 96), nn.GELU(), nn.Linear(96, d)) for _ in range(2)])
        self.norm = nn.ModuleList([nn.LayerNorm(d) for _ in range(2)])
        self.head = nn.Linear(d, V)

    def forward(self, x):
        h = self.emb(x) + self.pos
        for attn, ff, norm in zip(self.attn, self.ff, self.norm):
            h = h + attn(norm(h))
            h = h + ff(h)
        return self.head(h)


def loss_fn(logits, y):
    return F.cross_entropy(logits.flatten(0, 1), y.flatten())


train_loader = DataLoader(make(3000), batch_size=50, shuffle=True)
model = LM()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(20):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
