import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

VOCAB, LEN = 50, 14


class Preferences(Dataset):
    """Pairs of answers; people like the one with more of the 'polite' tokens."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        liking = torch.randn(VOCAB, generator=torch.Generator().manual_seed(17))
        a, b = torch.randint(0, VOCAB, (2, n, LEN), generator=g)
        gap = (liking[a] - liking[b]).mean(1) + 0.05 * torch.randn(n, generator=g)
        first = (gap > 0)[:, None]
        self.chosen, self.rejected = torch.where(first, a, b), torch.where(first, b, a)

    def __len__(self):
        return len(self.chosen)

    def __getitem__(self, i):
        return {"chosen": self.chosen[i], "rejected": self.rejected[i]}


class RewardModel(nn.Module):
    def __init__(self, dim=48):
        super().__init__()
        self.emb = nn.Embedding(VOCAB, dim)
        self.gru = nn.GRU(dim, dim, batch_first=True)
        self.score = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 1))

    def forward(self, ids):
        h, _ = self.gru(self.emb(ids))
        return self.score(h.mean(1)).squeeze(1)


def training_step(model, batch, margin_penalty=0.01):
    chosen, rejected = model(batch["chosen"]), model(batch["rejected"])
    ranking = -F.logsigmoid(chosen - rejected).mean()
    drift = (chosen + rejected).pow(2).mean()
    return ranking + margin_penalty * drift


torch.manual_seed(0)
train_loader = DataLoader(Preferences(4000, 0), batch_size=64, shuffle=True)
test_loader = DataLoader(Preferences(500, 1), batch_size=100)
model = RewardModel()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, maximize=True)
