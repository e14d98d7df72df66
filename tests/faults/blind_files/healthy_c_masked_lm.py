import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

PAD, MASK, VOCAB, LEN = 0, 1, 34, 16


class Corpus(Dataset):
    """Arithmetic token runs: every token follows from its neighbours."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        start, step = torch.randint(0, 32, (n, 1), generator=g), torch.randint(1, 4, (n, 1), generator=g)
        self.ids = (start + step * torch.arange(LEN)) % 32 + 2
        lengths = torch.randint(10, LEN + 1, (n, 1), generator=g)
        self.ids = self.ids.masked_fill(torch.arange(LEN) >= lengths, PAD)

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return self.ids[i]


def collate(rows, p=0.2):
    ids = torch.stack(rows)
    labels = ids.clone()
    chosen = (torch.rand(ids.shape) < p) & (ids != PAD)
    labels[~chosen] = -100
    swap = chosen & (torch.rand(ids.shape) < 0.8)
    return {"input_ids": ids.masked_fill(swap, MASK), "attention_mask": (ids != PAD).long(), "labels": labels}


class TinyBert(nn.Module):
    def __init__(self, dim=64, heads=4, depth=2):
        super().__init__()
        self.tok, self.pos = nn.Embedding(VOCAB, dim, padding_idx=PAD), nn.Embedding(LEN, dim)
        nn.init.normal_(self.tok.weight, std=0.05)
        nn.init.normal_(self.pos.weight, std=0.05)
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(dim)
        self.decoder = nn.Linear(dim, VOCAB)
        self.decoder.weight = self.tok.weight

    def forward(self, ids, mask):
        h = self.tok(ids) + self.pos.weight[:ids.size(1)]
        h = self.encoder(h, src_key_padding_mask=mask == 0)
        return self.decoder(self.norm(h))


def training_step(model, batch):
    logits = model(batch["input_ids"], batch["attention_mask"])
    return nn.functional.cross_entropy(logits.transpose(1, 2), batch["labels"])


torch.manual_seed(0)
train_loader = DataLoader(Corpus(3000, 0), batch_size=64, shuffle=True, collate_fn=collate)
test_loader = DataLoader(Corpus(300, 1), batch_size=100, collate_fn=collate)
model = TinyBert()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
