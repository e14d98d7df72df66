import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, Sampler


class Faces(Dataset):
    def __init__(self, n_ids=40, per_id=12, dim=32, seed=0):
        g = torch.Generator().manual_seed(seed)
        ident = torch.randn(n_ids, 8, generator=g).repeat_interleave(per_id, 0)
        mix = torch.randn(16, dim, generator=torch.Generator().manual_seed(9))
        nuisance = 0.7 * torch.randn(n_ids * per_id, 8, generator=g)
        self.x = torch.tanh(torch.cat([ident, nuisance], 1) @ mix / 4)
        self.y = torch.arange(n_ids).repeat_interleave(per_id)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class PKSampler(Sampler):
    """P identities x K images in every batch."""

    def __init__(self, labels, p=8, k=4, n_batches=60):
        self.labels, self.p, self.k, self.n_batches = labels, p, k, n_batches

    def __len__(self):
        return self.n_batches

    def __iter__(self):
        for _ in range(self.n_batches):
            batch = []
            for c in torch.randperm(int(self.labels.max()) + 1)[:self.p]:
                where = (self.labels == c).nonzero().squeeze(1)
                batch += where[torch.randperm(len(where))[:self.k]].tolist()
            yield batch


class EmbeddingNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(32, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 16))

    def forward(self, x):
        return F.normalize(self.net(x), dim=1)


def pairwise_distance(e):
    diff = e[:, None, :] - e[None, :, :]
    return diff.pow(2).sum(-1).sqrt()


def training_step(model, batch, margin=0.3):
    x, y = batch
    d = pairwise_distance(model(x))
    same = y[:, None] == y[None, :]
    positive = (d * same).sum(1) / (same.sum(1) - 1)
    hardest_neg = d.masked_fill(same, 10.0).amin(1)
    return F.relu(positive - hardest_neg + margin).mean()


torch.manual_seed(0)
train_set = Faces()
train_loader = DataLoader(train_set, batch_sampler=PKSampler(train_set.y))
model = EmbeddingNet()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
