import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

PAD, N_CLASSES, MAX_LEN = 0, 5, 20


class Tickets(Dataset):
    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.rows = []
        for _ in range(n):
            y = int(torch.randint(0, N_CLASSES, (1,), generator=g))
            k = int(torch.randint(6, MAX_LEN, (1,), generator=g))
            ids = torch.randint(1, 101, (k,), generator=g)
            hot = torch.rand(k, generator=g) < 0.4
            ids[hot] = 1 + y * 20 + torch.randint(0, 20, (int(hot.sum()),), generator=g)
            self.rows.append((ids, y))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def collate(rows):
    ids = pad_sequence([r[0] for r in rows] + [torch.zeros(MAX_LEN, dtype=torch.long)], batch_first=True)[:-1]
    mask = ids != PAD
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([r[1] for r in rows])}


class AttentionPool(nn.Module):
    def __init__(self, dim, heads=4):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 1, dim) * 0.1)
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.norm = nn.LayerNorm(dim)

    def forward(self, h, mask):
        q = self.query.expand(h.size(0), -1, -1)
        out, _ = self.attn(q, h, h, key_padding_mask=mask, need_weights=False)
        return self.norm(out.squeeze(1))


class TicketModel(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.emb = nn.Embedding(101, dim, padding_idx=PAD)
        self.ff = nn.Sequential(nn.Linear(dim, dim), nn.GELU())
        self.pool = AttentionPool(dim)
        self.out = nn.Linear(dim, N_CLASSES)

    def forward(self, ids, mask):
        return self.out(self.pool(self.ff(self.emb(ids)), mask))


def training_step(model, batch):
    logits = model(batch["input_ids"], batch["attention_mask"])
    return nn.functional.cross_entropy(logits, batch["labels"], label_smoothing=0.05)


torch.manual_seed(0)
train_loader = DataLoader(Tickets(2000, 0), batch_size=64, shuffle=True, collate_fn=collate)
test_loader = DataLoader(Tickets(300, 1), batch_size=100, collate_fn=collate)
model = TicketModel()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
