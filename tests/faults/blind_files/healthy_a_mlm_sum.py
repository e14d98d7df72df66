import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(22)
V, L, MASK = 30, 20, 1


class MaskedText(Dataset):
    """Arithmetic-progression 'sentences' over a ring of 28 word ids, 20 % masked."""

    def __init__(self, n):
        start, step = torch.randint(0, 28, (n, 1)), torch.randint(1, 4, (n, 1))
        self.ids = 2 + (start + step * torch.arange(L)) % 28

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        ids = self.ids[i].clone()
        chosen = torch.rand(L) < 0.2
        chosen[torch.randint(L, (1,))] = True
        labels = ids.clone()
        labels[~chosen] = -100
        ids[chosen] = MASK
        return ids, labels


class MLM(nn.Module):
    def __init__(self, d=64, heads=4, layers=2):
        super().__init__()
        self.tok = nn.Embedding(V, d)
        self.pos = nn.Embedding(L, d)
        block = nn.TransformerEncoderLayer(d, heads, 2 * d, dropout=0.0, batch_first=True, norm_first=True)
        self.enc = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.ln = nn.LayerNorm(d)
        self.bias = nn.Parameter(torch.zeros(V))
        nn.init.normal_(self.tok.weight, std=0.1)
        nn.init.normal_(self.pos.weight, std=0.1)

    def forward(self, ids):
        h = self.tok(ids) + self.pos(torch.arange(ids.size(1)))
        h = self.ln(self.enc(h))
        return h @ self.tok.weight.t() + self.bias


class MLMLoss(nn.Module):
    def __init__(self):
        super().__init__()
        self.ce = nn.CrossEntropyLoss(ignore_index=-100, reduction="sum")

    def forward(self, logits, labels):
        return self.ce(logits.flatten(0, 1), labels.flatten()) / (labels != -100).sum()


model = MLM()
train_loader = DataLoader(MaskedText(2000), batch_size=32, shuffle=True)
test_loader = DataLoader(MaskedText(200), batch_size=50)
loss_fn = MLMLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
