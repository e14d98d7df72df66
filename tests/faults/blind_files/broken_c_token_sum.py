import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader, Dataset

PAD, VOCAB = 0, 26


class Names(Dataset):
    """Character sequences from a noisy two-letter grammar."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        nxt = torch.randint(1, VOCAB, (VOCAB, 2), generator=torch.Generator().manual_seed(3))
        self.rows = []
        for _ in range(n):
            k = int(torch.randint(8, 20, (1,), generator=g))
            ids = [int(torch.randint(1, VOCAB, (1,), generator=g))]
            for _ in range(k):
                ids.append(int(nxt[ids[-1], int(torch.rand(1, generator=g) < 0.2)]))
            self.rows.append(torch.tensor(ids))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def collate(rows):
    rows = sorted(rows, key=len, reverse=True)
    ids = pad_sequence(rows, batch_first=True, padding_value=PAD)
    return ids, torch.tensor([len(r) for r in rows])


class CharLSTM(nn.Module):
    def __init__(self, dim=48, hidden=96):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, dim, padding_idx=PAD)
        self.lstm = nn.LSTM(dim, hidden, batch_first=True)
        self.out = nn.Linear(hidden, VOCAB)

    def forward(self, ids, lengths):
        packed = pack_padded_sequence(self.emb(ids), lengths, batch_first=True)
        h, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.out(h)


criterion = nn.CrossEntropyLoss(ignore_index=PAD, reduction="sum")


def training_step(model, batch):
    ids, lengths = batch
    logits = model(ids[:, :-1], lengths - 1)
    return criterion(logits.transpose(1, 2), ids[:, 1:])


torch.manual_seed(0)
train_loader = DataLoader(Names(1500, 0), batch_size=64, shuffle=True, collate_fn=collate)
test_loader = DataLoader(Names(200, 1), batch_size=50, collate_fn=collate)
model = CharLSTM()
optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
