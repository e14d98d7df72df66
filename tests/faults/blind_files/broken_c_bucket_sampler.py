import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler


class Utterances(Dataset):
    """Variable-length feature sequences (keyword spotting)."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        keys = torch.randn(8, 5, 10, generator=torch.Generator().manual_seed(77))
        self.rows = []
        for _ in range(n):
            t = int(torch.randint(14, 30, (1,), generator=g))
            y = int(torch.randint(0, 8, (1,), generator=g))
            x = 0.9 * torch.randn(t, 10, generator=g)
            at = int(torch.randint(0, t - 5, (1,), generator=g))
            x[at:at + 5] += keys[y]
            self.rows.append((x, y))
        self.lengths = torch.tensor([len(r[0]) for r in self.rows])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


class BucketBatchSampler(Sampler):
    def __init__(self, lengths, batch_size, bucket=160):
        self.lengths, self.batch_size, self.bucket = lengths, batch_size, bucket

    def __len__(self):
        return len(self.lengths) // self.batch_size

    def __iter__(self):
        order = torch.randperm(len(self.lengths))
        for k in range(0, len(order), self.bucket):
            pool = order[k % self.bucket:][:self.bucket]
            pool = pool[self.lengths[pool].argsort(descending=True)]
            for _ in range(len(pool) // self.batch_size):
                yield pool[:self.batch_size].tolist()


def collate(rows):
    x = nn.utils.rnn.pad_sequence([r[0] for r in rows], batch_first=True)
    lengths = torch.tensor([len(r[0]) for r in rows])
    return x, lengths, torch.tensor([r[1] for r in rows])


class KeywordNet(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv1d(10, dim, 5, padding=2), nn.ReLU(), nn.Conv1d(dim, dim, 3, padding=1), nn.ReLU())
        self.out = nn.Linear(dim, 8)

    def forward(self, x, lengths):
        h = self.conv(x.transpose(1, 2))
        pad = torch.arange(x.size(1))[None] >= lengths[:, None]
        return self.out(h.masked_fill(pad[:, None], 0.0).amax(2))


def training_step(model, batch):
    x, lengths, y = batch
    return nn.functional.cross_entropy(model(x, lengths), y)


torch.manual_seed(0)
train_set, test_set = Utterances(1600, 0), Utterances(320, 1)
train_loader = DataLoader(train_set, batch_sampler=BucketBatchSampler(train_set.lengths, 32), collate_fn=collate)
test_loader = DataLoader(test_set, batch_size=64, collate_fn=collate)
model = KeywordNet()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
