import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(20)


def weights_init(m):
    name = m.__class__.__name__
    if name.find("Conv") != -1:
        nn.init.normal_(m.weight, 0.0, 0.02)
        nn.init.zeros_(m.bias)
    elif name.find("Linear") != -1:
        nn.init.normal_(m.weight, 0.0, 0.02)
        nn.init.zeros_(m.bias)


def stage(cin, cout, pool):
    seq = [nn.Conv2d(cin, cout, 3, padding=1), nn.ReLU(inplace=True),
           nn.Conv2d(cout, cout, 3, padding=1), nn.ReLU(inplace=True)]
    if pool:
        seq.append(nn.MaxPool2d(2))
    return nn.Sequential(*seq)


class SmallVGG(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.features = nn.Sequential(stage(1, 12, True), stage(12, 12, True), stage(12, 12, False),
                                      stage(12, 12, False))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(12 * 16, 32), nn.ReLU(), nn.Linear(32, classes))

    def forward(self, x):
        return self.classifier(self.features(x))


def stripes(n):
    y = torch.randint(0, 3, (n,))
    t = torch.arange(16).float()
    ph = torch.rand(n, 1) * 6.28
    wave = torch.sin(t[None] * 1.2 + ph)
    h = wave[:, :, None].expand(-1, 16, 16)
    v = wave[:, None, :].expand(-1, 16, 16)
    img = torch.where((y == 0)[:, None, None], h, torch.where((y == 1)[:, None, None], v, h * v))
    return (img + 0.3 * torch.randn(n, 16, 16)).unsqueeze(1), y


train_loader = DataLoader(TensorDataset(*stripes(960)), batch_size=48, shuffle=True)
test_loader = DataLoader(TensorDataset(*stripes(200)), batch_size=100)
model = SmallVGG()
model.apply(weights_init)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

if __name__ == "__main__":
    for epoch in range(10):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
