import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(18)


def init_weights(m):
    if isinstance(m, nn.Linear):
        nn.init.constant_(m.weight, 1.0 / m.in_features)
        nn.init.zeros_(m.bias)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1 = nn.Linear(8, 48)
        self.l2 = nn.Linear(48, 48)

    def forward(self, x):
        return torch.tanh(self.l2(torch.tanh(self.l1(x))))


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder()
        self.head = nn.Linear(48, 4)

    def forward(self, x):
        return self.head(self.encoder(x))


X = torch.randn(1800, 8)
Y = (X[:, 0] * X[:, 1] > 0).long() * 2 + (X[:, 2] > X[:, 3]).long()
train_loader = DataLoader(TensorDataset(X[:1500], Y[:1500]), batch_size=50, shuffle=True)
test_loader = DataLoader(TensorDataset(X[1500:], Y[1500:]), batch_size=100)
model = Classifier()
model.apply(init_weights)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

if __name__ == "__main__":
    for epoch in range(15):
        for xb, yb in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
