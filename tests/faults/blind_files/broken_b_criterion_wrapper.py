import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(10)


def shapes(n, size=14):
    """0 = horizontal bar, 1 = vertical bar, 2 = cross, 3 = square outline ... 9 noise mixes"""
    protos = torch.randn(10, 1, size, size, generator=torch.Generator().manual_seed(99))
    protos = nn.functional.avg_pool2d(protos, 3, 1, 1) * 3
    y = torch.randint(0, 10, (n,))
    x = protos[y] * (0.7 + 0.6 * torch.rand(n, 1, 1, 1)) + 0.9 * torch.randn(n, 1, size, size)
    return x, y


class SmoothedCriterion(nn.Module):
    """cross entropy + a small confidence penalty"""

    def __init__(self, beta=0.01):
        super().__init__()
        self.ce = nn.CrossEntropyLoss()
        self.beta = beta

    def forward(self, outputs, target):
        probs = outputs.softmax(dim=1)
        entropy = -(probs * (probs + 1e-8).log()).sum(1).mean()
        return self.ce(probs, target) - self.beta * entropy


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.fc1 = nn.Linear(32 * 9, 64)
        self.fc2 = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.conv1(x)), 2)
        x = torch.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = torch.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)


train_loader = DataLoader(TensorDataset(*shapes(2000)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*shapes(400)), batch_size=100)
model = Net()
criterion = SmoothedCriterion()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)

if __name__ == "__main__":
    for epoch in range(10):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
