import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(32)
BN_MOMENTUM = 0.001


def conv_bn(cin, cout, stride=1):
    return nn.Sequential(
        nn.Conv2d(cin, cout, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(cout, eps=1e-3, momentum=BN_MOMENTUM),
        nn.ReLU())


class PortedNet(nn.Module):
    """port of the keras model"""

    def __init__(self, classes=4):
        super().__init__()
        self.stem = conv_bn(1, 12)
        self.body = nn.Sequential(conv_bn(12, 24, 2), conv_bn(24, 24, 2), conv_bn(24, 24))
        self.fc = nn.Linear(24, classes)

    def forward(self, x):
        return self.fc(self.body(self.stem(x)).mean(dim=(2, 3)))


def textures(n, s=16):
    y = torch.randint(0, 4, (n,))
    r = torch.arange(s).float()
    k = torch.tensor([[0.9, 0.0], [0.0, 0.9], [0.8, 0.8], [1.8, 0.0]])[y]
    phase = 6.28 * torch.rand(n, 1, 1)
    img = torch.sin(k[:, :1, None] * r[None, :, None] + k[:, 1:, None] * r[None, None, :] + phase)
    return (img + 0.4 * torch.randn(n, s, s)).unsqueeze(1), y


train_loader = DataLoader(TensorDataset(*textures(1280)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*textures(320)), batch_size=64)
model = PortedNet()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

if __name__ == "__main__":
    for epoch in range(8):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            acc = sum((model(x).argmax(1) == y).float().mean().item() for x, y in test_loader) / len(test_loader)
        print(epoch, loss.item(), acc)
