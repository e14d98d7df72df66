import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

VOCAB = 20


class MarkovText(Dataset):
    def __init__(self, n, length=32, seed=0):
        g = torch.Generator().manual_seed(seed)
        table = torch.softmax(2.0 * torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(99)), 1)
        ids = torch.randint(0, VOCAB, (n, 1), generator=g)
        for _ in range(length):
            ids = torch.cat([ids, torch.multinomial(table[ids[:, -1]], 1, generator=g)], 1)
        self.ids = ids

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        return self.ids[i, :-1], self.ids[i, 1:]


class GatedBlock(nn.Module):
    def __init__(self, dim, kernel, dilation):
        super().__init__()
        pad = (kernel - 1) * dilation
        self.pad = (pad // 2, pad - pad // 2)
        self.conv = nn.Conv1d(dim, 2 * dim, kernel, dilation=dilation)
        self.mix = nn.Conv1d(dim, dim, 1)

    def forward(self, x):
        a, b = self.conv(F.pad(x, self.pad)).chunk(2, dim=1)
        return x + self.mix(torch.tanh(a) * torch.sigmoid(b))


class WaveNetLM(nn.Module):
    def __init__(self, dim=48, dilations=(1, 2, 4)):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, dim)
        self.blocks = nn.Sequential(*[GatedBlock(dim, 3, d) for d in dilations])
        self.out = nn.Linear(dim, VOCAB)

    def forward(self, ids):
        h = self.blocks(self.emb(ids).transpose(1, 2))
        return self.out(h.transpose(1, 2))


def loss_fn(logits, targets):
    return F.cross_entropy(logits.reshape(-1, VOCAB), targets.reshape(-1))


torch.manual_seed(0)
train_loader = DataLoader(MarkovText(1500), batch_size=32, shuffle=True)
test_loader = DataLoader(MarkovText(200, seed=1), batch_size=50)
model = WaveNetLM()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
