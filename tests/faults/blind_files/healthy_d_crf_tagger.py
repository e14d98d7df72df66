"""BiLSTM-CRF tagger with padding: spans that start at a trigger word and end at a closer."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(41)
T, V, TAGS = 14, 30, 3


def make(n):
    x = torch.randint(3, V, (n, T))
    length = torch.randint(8, T + 1, (n,))
    x[torch.rand(n, T) < 0.12] = 1
    x[torch.rand(n, T) < 0.12] = 2
    y, inside = torch.zeros(n, T, dtype=torch.long), torch.zeros(n, dtype=torch.bool)
    for t in range(T):
        start = (x[:, t] == 1) & ~inside
        y[:, t] = torch.where(start, 1, torch.where(inside, 2, 0))
        inside = (inside | start) & (x[:, t] != 2)
    pad = torch.arange(T) >= length[:, None]
    return TensorDataset(x.masked_fill(pad, 0), y.masked_fill(pad, -1))


class Tagger(nn.Module):
    def __init__(self, d=32):
        super().__init__()
        self.emb = nn.Embedding(V, d, padding_idx=0)
        self.lstm = nn.LSTM(d, d, batch_first=True, bidirectional=True)
        self.emit = nn.Linear(2 * d, TAGS)
        self.trans = nn.Parameter(torch.zeros(TAGS, TAGS))

    def forward(self, x):
        return self.emit(self.lstm(self.emb(x))[0])

    def nll(self, e, y):
        mask, tag = (y >= 0).float(), y.clamp(min=0)
        gold = e.gather(2, tag.unsqueeze(2)).squeeze(2)
        gold = (gold * mask).sum(1) + (self.trans[tag[:, :-1], tag[:, 1:]] * mask[:, 1:]).sum(1)
        alpha = e[:, 0]
        for t in range(1, e.shape[1]):
            new = torch.logsumexp(alpha.unsqueeze(2) + self.trans, 1) + e[:, t]
            alpha = torch.where(mask[:, t:t + 1] > 0, new, alpha)
        return ((torch.logsumexp(alpha, 1) - gold) / mask.sum(1)).mean()


def training_step(model, batch):
    x, y = batch
    return model.nll(model(x), y)


train_loader = DataLoader(make(2000), batch_size=32, shuffle=True)
test_loader = DataLoader(make(300), batch_size=100)
model = Tagger()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
