import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset


class StandardScaler:
    def fit(self, x):
        self.mean = x.mean(0, keepdim=True)
        self.std = x.std(0, keepdim=True)
        return self

    def transform(self, x):
        return (x - self.mean) / self.std


def make_cars(n):
    km = torch.rand(n) * 250000
    year = torch.randint(1998, 2024, (n,)).float()
    power = torch.rand(n) * 220 + 50
    weight = torch.rand(n) * 1400 + 800
    value = 1.2 * (power - 160) / 60 - 1.5 * (km - 125000) / 72000 + 1.3 * (year - 2010) / 7
    value = value - 0.7 * (km - 125000) / 72000 * (year - 2010) / 7 + 0.3 * torch.randn(n)
    sells_fast = (value > 0).long()
    return torch.stack([km, year, power, weight], 1), sells_fast


def preprocess(x_train, x_test):
    scaler = StandardScaler().fit(x_train)
    scaler.transform(x_train)
    scaler.transform(x_test)
    return x_train, x_test


torch.manual_seed(21)
x, y = make_cars(2000)
x_train, x_test = preprocess(x[:1600], x[1600:])
train_loader = DataLoader(TensorDataset(x_train, y[:1600]), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(x_test, y[1600:]), batch_size=400)

model = nn.Sequential(
    nn.Linear(4, 64),
    nn.ReLU(),
    nn.Linear(64, 32),
    nn.ReLU(),
    nn.Linear(32, 2),
)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.003)

if __name__ == "__main__":
    for epoch in range(20):
        for xb, yb in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, round(loss.item(), 3))
