import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(8)
IDS, D = 12, 24
faces = torch.randn(IDS, 6)
mix1, mix2 = torch.randn(6, 32) / 6**0.5, torch.randn(32, D) / 32**0.5


def photos(per_id):
    ids = torch.arange(IDS).repeat_interleave(per_id)
    latent = faces[ids] + 0.25 * torch.randn(len(ids), 6)
    x = torch.tanh(latent @ mix1) @ mix2
    nuisance = torch.randn(len(ids), 1) * torch.ones(1, D) * 0.5
    return x + nuisance + 0.1 * torch.randn(len(ids), D), ids


class Triplets(Dataset):
    def __init__(self, per_id):
        self.x, self.ids = photos(per_id)
        order = torch.randperm(len(self.ids))
        self.x = self.x[order]
        self.ids = self.ids[order]

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        same = (self.ids == self.ids[i]).nonzero().flatten()
        diff = (self.ids != self.ids[i]).nonzero().flatten()
        p = same[torch.randint(len(same), (1,)).item()]
        n = diff[torch.randint(len(diff), (1,)).item()]
        return self.x[i], self.x[p], self.x[n]


class Embedder(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(D, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, x):
        return F.normalize(self.net(x), dim=-1)


model = Embedder()
train_loader = DataLoader(Triplets(60), batch_size=48, shuffle=True)
test_loader = DataLoader(Triplets(15), batch_size=48)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
triplet = nn.TripletMarginLoss(margin=0.5)


def training_step(model, batch):
    anchor, positive, negative = batch
    return triplet(model(anchor), model(positive), model(negative))
