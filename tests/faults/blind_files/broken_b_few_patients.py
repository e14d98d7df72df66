import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(29)


def gene_table(n, genes=120):
    x = torch.randn(n, genes)
    risk = x[:, 0] + 0.8 * x[:, 1] - 0.7 * x[:, 2]
    y = (risk + 0.8 * torch.randn(n) > 0).long()
    return x, y


class BigNet(nn.Module):
    def __init__(self, genes=120, width=512):
        super().__init__()
        self.block = nn.Sequential(
            nn.Linear(genes, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, 2)

    def forward(self, x):
        return self.head(self.block(x))


def split(dataset, test_part=0.04):
    n_test = int(len(dataset) * test_part)
    first, second = random_split(dataset, [n_test, len(dataset) - n_test])
    return first, second


dataset = TensorDataset(*gene_table(1600))
train_set, test_set = split(dataset)
train_loader = DataLoader(train_set, batch_size=16, shuffle=True)
test_loader = DataLoader(test_set, batch_size=96)
model = BigNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

if __name__ == "__main__":
    for epoch in range(40):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
