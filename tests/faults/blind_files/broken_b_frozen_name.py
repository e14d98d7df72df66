import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(34)


class MiniMobileNet(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2))
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(128, 64), nn.ReLU())
        self.logits = nn.Linear(64, classes)
        nn.init.zeros_(self.logits.weight)
        nn.init.zeros_(self.logits.bias)

    def forward(self, x):
        return self.logits(self.classifier(self.features(x)))


def freeze(net, keep="classifier"):
    for name, p in net.named_parameters():
        p.requires_grad = name.startswith(keep)
    return net


def fruit(n):
    y = torch.randint(0, 5, (n,))
    colours = torch.tensor([[.9, .1, .1], [.9, .8, .1], [.2, .8, .2], [.9, .5, .1], [.5, .1, .6]])
    x = torch.zeros(n, 3, 16, 16)
    for i in range(n):
        r, c = torch.randint(0, 7, (2,)).tolist()
        x[i, :, r:r + 9, c:c + 9] = colours[y[i]][:, None, None]
    return (x + 0.15 * torch.randn_like(x) - 0.3) / 0.35, y


train_loader = DataLoader(TensorDataset(*fruit(1000)), batch_size=40, shuffle=True)
test_loader = DataLoader(TensorDataset(*fruit(200)), batch_size=100)
model = freeze(MiniMobileNet(5))
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(filter(lambda p: p.requires_grad, model.parameters()), lr=2e-3)

if __name__ == "__main__":
    for epoch in range(8):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
