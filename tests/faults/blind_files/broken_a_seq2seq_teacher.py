"""GRU encoder-decoder with additive attention: transliterate and reverse short codes."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
PAD, BOS, EOS, V, L = 0, 1, 2, 13, 6


def make(n):
    src = torch.randint(3, V, (n, L))
    body = (src.flip(1) - 3 + 4) % (V - 3) + 3
    tgt = torch.cat([torch.full((n, 1), BOS), body, torch.full((n, 1), EOS)], 1)
    return TensorDataset(src, tgt)


class Attention(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.w_enc = nn.Linear(d, d, bias=False)
        self.w_dec = nn.Linear(d, d)
        self.v = nn.Linear(d, 1, bias=False)

    def forward(self, query, memory):
        scores = self.v(torch.tanh(self.w_enc(memory) + self.w_dec(query).unsqueeze(1))).squeeze(-1)
        weights = F.softmax(scores, dim=1)
        return torch.bmm(weights.unsqueeze(1), memory).squeeze(1)


class Seq2Seq(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.src_emb = nn.Embedding(V, d)
        self.tgt_emb = nn.Embedding(V, d)
        self.encoder = nn.GRU(d, d // 2, batch_first=True, bidirectional=True)
        self.attn = Attention(d)
        self.cell = nn.GRUCell(2 * d, d)
        self.out = nn.Linear(2 * d, V)

    def forward(self, src, tgt_in):
        memory, h = self.encoder(self.src_emb(src))
        h = torch.cat([h[0], h[1]], -1)
        emb = self.tgt_emb(tgt_in)
        logits = []
        for t in range(tgt_in.size(1)):
            ctx = self.attn(h, memory)
            h = self.cell(torch.cat([emb[:, t], ctx], -1), h)
            logits.append(self.out(torch.cat([h, ctx], -1)))
        return torch.stack(logits, 1)


model = Seq2Seq()
train_loader = DataLoader(make(2048), batch_size=64, shuffle=True)
test_loader = DataLoader(make(256), batch_size=64)
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)


def training_step(model, batch):
    src, tgt = batch
    logits = model(src, tgt[:, 1:])
    return F.cross_entropy(logits.reshape(-1, V), tgt[:, 1:].reshape(-1))


if __name__ == "__main__":
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
