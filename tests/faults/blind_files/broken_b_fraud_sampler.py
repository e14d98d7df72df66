import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

torch.manual_seed(6)


def make(n, fraud_rate=0.12):
    y = (torch.rand(n) < fraud_rate).long()
    x = torch.randn(n, 8)
    x[:, 0] += 1.1 * y
    x[:, 1] -= 0.9 * y
    x[:, 2] *= 1 + 0.8 * y
    return x, y


def balanced_sampler(labels):
    counts = torch.bincount(labels).float()
    freq = counts / counts.sum()
    weights = freq[labels]
    return WeightedRandomSampler(weights, num_samples=len(labels), replacement=True)


x_train, y_train = make(3000)
x_test, y_test = make(800, fraud_rate=0.5)

train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=64, sampler=balanced_sampler(y_train))
test_loader = DataLoader(TensorDataset(x_test, y_test), batch_size=200)


class FraudNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, x):
        return self.layers(x)


model = FraudNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

if __name__ == "__main__":
    for epoch in range(10):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            acc = (model(x_test).argmax(1) == y_test).float().mean()
        model.train()
        print(epoch, loss.item(), acc.item())
