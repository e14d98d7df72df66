"""Credit default: categorical embeddings + numeric columns."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split

torch.manual_seed(11)
N = 3000
income = torch.distributions.LogNormal(10.6, 0.5).sample((N,))
debt = income * torch.rand(N) * 1.5
age = torch.randint(20, 75, (N,)).float()
job = torch.randint(0, 8, (N,))
region = torch.randint(0, 5, (N,))
risk = torch.tensor([-1.5, -.8, -.2, 0., .3, .7, 1.2, 1.6])[job]
logit = 4 * (debt / income - 0.75) - 0.04 * (age - 45) + risk + (region == 2).float()
default = (logit + 0.3 * torch.randn(N) > 0).float()

numeric = torch.stack([income, debt, age], 1)
numeric = (numeric - numeric.mean(0)) / numeric.std(0)


class Credit(Dataset):
    def __len__(self):
        return N

    def __getitem__(self, i):
        return {"num": numeric[i], "cat": torch.stack([job[i], region[i]]), "label": default[i]}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.job, self.region = nn.Embedding(8, 4), nn.Embedding(5, 3)
        self.body = nn.Sequential(
            nn.Linear(3 + 7, 64), nn.ReLU(), nn.Dropout(0.1),
            nn.Linear(64, 32), nn.ReLU(),
            nn.Linear(32, 1))

    def forward(self, num, cat):
        e = torch.cat([num, self.job(cat[:, 0]), self.region(cat[:, 1])], dim=1)
        return self.body(e).squeeze(1)


train_ds, test_ds = random_split(Credit(), [2400, 600], torch.Generator().manual_seed(0))
train_loader = DataLoader(train_ds, batch_size=2, shuffle=True)
test_loader = DataLoader(test_ds, batch_size=200)
model = Net()
bce = nn.BCEWithLogitsLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)


def training_step(model, batch):
    out = model(batch["num"], batch["cat"])
    return bce(out, batch["label"])
