"""Toy speech recogniser: variable-duration phones, GRU acoustic model, CTC."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(20)
PHONES, FEAT, FRAMES, MAXLEN, BLANK = 6, 10, 30, 5, 0
proto = torch.randn(PHONES + 1, FEAT) * 1.5


def utterances(n):
    x = 0.3 * torch.randn(n, FRAMES, FEAT)
    y = torch.randint(1, PHONES + 1, (n, MAXLEN))
    lens = torch.randint(3, MAXLEN + 1, (n,))
    for i in range(n):
        t = int(torch.randint(0, 3, (1,)))
        for k in range(int(lens[i])):
            d = int(torch.randint(3, 6, (1,)))
            x[i, t:t + d] += proto[y[i, k]]
            t += d
    return TensorDataset(x, y, lens)


class Acoustic(nn.Module):
    def __init__(self, h=48):
        super().__init__()
        self.front = nn.Conv1d(FEAT, h, 3, padding=1)
        self.rnn = nn.GRU(h, h, batch_first=True, bidirectional=True)
        self.proj = nn.Linear(2 * h, PHONES + 1)

    def forward(self, x):
        h = F.relu(self.front(x.transpose(1, 2))).transpose(1, 2)
        h, _ = self.rnn(h)
        return self.proj(h).softmax(dim=-1)


model = Acoustic()
train_loader = DataLoader(utterances(1000), batch_size=32, shuffle=True)
test_loader = DataLoader(utterances(200), batch_size=50)
optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
ctc = nn.CTCLoss(blank=BLANK, zero_infinity=True)


def training_step(model, batch):
    x, y, lens = batch
    log_probs = model(x).transpose(0, 1)
    frames = torch.full((x.size(0),), FRAMES)
    return ctc(log_probs, y, frames, lens)
