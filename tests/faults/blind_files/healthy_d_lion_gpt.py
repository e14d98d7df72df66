"""Character-level decoder with RMSNorm, SwiGLU and tied embeddings, trained by Lion."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(6)
words = "the cat dog bird sat ran flew on under over a mat log tree red old".split()
gen = torch.Generator().manual_seed(6)
text = " ".join(words[i] for i in torch.randint(0, len(words), (8000,), generator=gen).tolist())
vocab = sorted(set(text))
ids = torch.tensor([vocab.index(c) for c in text])
L = 32
starts = torch.arange(0, len(ids) - L - 1, 16)
X = torch.stack([ids[s:s + L] for s in starts])
Y = torch.stack([ids[s + 1:s + L + 1] for s in starts])


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_((b1 * m + (1 - b1) * p.grad).sign(), alpha=-group["lr"])
                m.mul_(b2).add_(p.grad, alpha=1 - b2)
        return loss


class Layer(nn.Module):
    def __init__(self, d, heads=4):
        super().__init__()
        self.heads = heads
        self.n1, self.n2 = nn.RMSNorm(d), nn.RMSNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.up, self.down = nn.Linear(d, 4 * d, bias=False), nn.Linear(2 * d, d, bias=False)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(self.n1(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, d))
        u, g = self.up(self.n2(x)).chunk(2, -1)
        return x + self.down(F.silu(g) * u)


class GPT(nn.Module):
    def __init__(self, v, d=48):
        super().__init__()
        self.emb, self.pos = nn.Embedding(v, d), nn.Embedding(L, d)
        nn.init.normal_(self.emb.weight, std=0.1)
        nn.init.normal_(self.pos.weight, std=0.1)
        self.layers = nn.Sequential(Layer(d), Layer(d))
        self.norm = nn.RMSNorm(d)

    def forward(self, x):
        h = self.emb(x) + self.pos.weight[: x.shape[1]]
        return self.norm(self.layers(h)) @ self.emb.weight.T


def loss_fn(logits, target):
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())


train_loader = DataLoader(TensorDataset(X, Y), batch_size=32, shuffle=True)
model = GPT(len(vocab))
optimizer = Lion(model.parameters(), lr=1e-3, weight_decay=0.1)


if __name__ == "__main__":
    model.train()
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
