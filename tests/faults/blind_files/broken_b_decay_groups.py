import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(27)


def make_images(n):
    """where is the bright quadrant"""
    y = torch.randint(0, 4, (n,))
    x = 0.6 * torch.randn(n, 1, 12, 12)
    for i, k in enumerate(y.tolist()):
        r, c = divmod(k, 2)
        x[i, 0, r * 6 + 1:r * 6 + 5, c * 6 + 1:c * 6 + 5] += 0.8
    return x, y


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 16, 3, padding=1, stride=2)
        self.fc = nn.Linear(16 * 36, 4)

    def forward(self, x):
        x = torch.relu(self.conv1(x))
        x = torch.relu(self.conv2(x))
        return self.fc(x.flatten(1))


def make_optimizer(net, lr=0.05, wd=2.0):
    with_decay = [p for p in net.parameters() if p.dim() > 1]
    without = [p for p in net.parameters() if p.dim() <= 1]
    return torch.optim.SGD([
        {"params": with_decay, "weight_decay": wd},
        {"params": without, "weight_decay": 0.0},
    ], lr=lr, momentum=0.9)


train_loader = DataLoader(TensorDataset(*make_images(1280)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*make_images(300)), batch_size=100)
model = ConvNet()
criterion = nn.CrossEntropyLoss()
optimizer = make_optimizer(model)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=20, gamma=0.5)

if __name__ == "__main__":
    for epoch in range(10):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        scheduler.step()
        print(epoch, loss.item())
