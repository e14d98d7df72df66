# house price regression
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(42)

n = 2400
rooms = torch.randint(1, 9, (n,)).float()
area = 25 * rooms + 15 * torch.randn(n)
age = 80 * torch.rand(n)
dist = 20 * torch.rand(n)
garden = (torch.rand(n) < 0.3).float()
noise = 10 * torch.randn(n)
price = 1.5 * area - 0.02 * (age - 40) ** 2 + 250 / (1 + dist) + 60 * garden * (dist > 8) + noise

X = torch.stack([rooms, area, age, dist, garden], dim=1)
X = (X - X.mean(0)) / X.std(0)
y = (price - price.mean()) / price.std()
y = y.unsqueeze(1)

train_ds = TensorDataset(X[:2000], y[:2000])
test_ds = TensorDataset(X[2000:], y[2000:])
train_loader = DataLoader(train_ds, batch_size=32, shuffle=True)
test_loader = DataLoader(test_ds, batch_size=100)

model = nn.Sequential(
    nn.Linear(5, 64),
    nn.ReLU(),
    nn.Linear(64, 64),
    nn.ReLU(),
    nn.Linear(64, 1),
)
criterion = nn.MSELoss(reduction="sum")
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def train(epochs=20):
    for epoch in range(epochs):
        total = 0.0
        for xb, yb in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}: {total / len(train_loader):.4f}")


if __name__ == "__main__":
    train()
