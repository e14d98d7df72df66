import math
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

PAD, BOS, VOCAB = 0, 1, 30


class ReverseMap(Dataset):
    """Source tokens -> the same tokens through a cipher."""

    def __init__(self, n, seed, length=8):
        g = torch.Generator().manual_seed(seed)
        cipher = torch.cat([torch.tensor([0, 1]), torch.randperm(VOCAB - 2, generator=torch.Generator().manual_seed(5)) + 2])
        self.src = torch.randint(2, VOCAB, (n, length), generator=g)
        self.tgt = torch.cat([torch.full((n, 1), BOS), cipher[self.src]], 1)

    def __len__(self):
        return len(self.src)

    def __getitem__(self, i):
        return self.src[i], self.tgt[i]


class Seq2Seq(nn.Module):
    def __init__(self, d_model=64, heads=4, max_len=16):
        super().__init__()
        self.d_model = d_model
        self.src_emb, self.tgt_emb = nn.Embedding(VOCAB, d_model), nn.Embedding(VOCAB, d_model)
        pos = torch.arange(max_len)[:, None] * torch.exp(torch.arange(0, d_model, 2) * (-math.log(1e4) / d_model))
        self.register_buffer("pe", torch.stack([pos.sin(), pos.cos()], -1).flatten(1))
        self.core = nn.Transformer(d_model, heads, 1, 1, 128, dropout=0.0, batch_first=True)
        self.out = nn.Linear(d_model, VOCAB)

    def forward(self, src, tgt):
        s = self.src_emb(src) + self.pe[:src.size(1)]
        t = self.tgt_emb(tgt) + self.pe[:tgt.size(1)]
        mask = nn.Transformer.generate_square_subsequent_mask(tgt.size(1))
        return self.out(self.core(s, t, tgt_mask=mask, tgt_is_causal=True))


def noam(step, d_model=64, warmup=60):
    step = max(step, 1)
    return d_model ** -0.5 * min(step ** -0.5, step * warmup ** -1.5)


def training_step(model, batch):
    src, tgt = batch
    logits = model(src, tgt[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), tgt[:, 1:].flatten(), ignore_index=PAD)


torch.manual_seed(0)
train_loader = DataLoader(ReverseMap(3000, 0), batch_size=64, shuffle=True)
test_loader = DataLoader(ReverseMap(300, 1), batch_size=100)
model = Seq2Seq()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, noam)
