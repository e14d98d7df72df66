import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(15)
W1 = torch.randn(12, 10) / 12**0.5
W2 = torch.randn(10, 3)


def tabular(n):
    x = torch.randn(n, 12)
    logits = torch.sin(2.0 * x @ W1) @ W2
    return TensorDataset(x, logits.argmax(1))


class HighwayLayer(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.transform = nn.Linear(d, d)
        self.gate = nn.Linear(d, d)
        nn.init.constant_(self.gate.bias, -30.0)

    def forward(self, x):
        t = torch.sigmoid(self.gate(x))
        h = torch.relu(self.transform(x))
        return t * h + (1 - t) * x


class HighwayNet(nn.Module):
    def __init__(self, d=48, depth=14, classes=3):
        super().__init__()
        self.stem = nn.Linear(12, d)
        self.layers = nn.Sequential(*[HighwayLayer(d) for _ in range(depth)])
        self.head = nn.Linear(d, classes)

    def forward(self, x):
        return self.head(self.layers(self.stem(x)))


model = HighwayNet()
train_loader = DataLoader(tabular(4000), batch_size=100, shuffle=True)
test_loader = DataLoader(tabular(800), batch_size=200)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

if __name__ == "__main__":
    for epoch in range(10):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
