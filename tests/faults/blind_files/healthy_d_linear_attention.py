"""Linear attention (elu+1 feature map): does the first half hold more openers than the second?"""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(11)


def make(n, length=40):
    x = torch.randint(0, 8, (n, length))
    bias = torch.randint(0, 2, (n, 1))
    pos = torch.arange(length) < length // 2
    swap = (torch.rand(n, length) < 0.4) & (pos == bias.bool())
    x[swap] = 7
    return TensorDataset(x, ((x == 7) & pos).sum(1).gt(((x == 7) & ~pos).sum(1)).long())


class LinearAttention(nn.Module):
    def __init__(self, d, heads=4):
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(d, 3 * d), nn.Linear(d, d)

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        q, k = F.elu(q) + 1, F.elu(k) + 1
        context = k.transpose(-1, -2) @ v
        z = 1 / (q * k.sum(-2, keepdim=True)).sum(-1, keepdim=True)
        return self.out(((q @ context) * z).transpose(1, 2).reshape(b, t, d))


class Classifier(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.emb, self.pos = nn.Embedding(8, d), nn.Parameter(torch.randn(40, d) * 0.3)
        self.attn = nn.ModuleList([LinearAttention(d) for _ in range(2)])
        self.ff = nn.ModuleList([nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 64), nn.GELU(), nn.Linear(64, d)) for _ in range(2)])
        self.norm = nn.ModuleList([nn.LayerNorm(d) for _ in range(2)])
        self.head = nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 2))

    def forward(self, x):
        h = self.emb(x) + self.pos
        for attn, ff, norm in zip(self.attn, self.ff, self.norm):
            h = h + attn(norm(h))
            h = h + ff(h)
        return self.head(h.mean(1))


train_loader = DataLoader(make(3000), batch_size=50, shuffle=True)
test_loader = DataLoader(make(500), batch_size=250)
model = Classifier()
loss_fn = nn.CrossEntropyLoss(label_smoothing=0.05)
optimizer = torch.optim.NAdam(model.parameters(), lr=2e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
