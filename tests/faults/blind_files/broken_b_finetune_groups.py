import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(28)


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer1 = nn.Sequential(nn.Linear(20, 64), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Linear(64, 64), nn.ReLU())
        self.fc = nn.Linear(64, 1000)

    def forward(self, x):
        return self.fc(self.layer2(self.layer1(x)))


def param_groups(net, lr):
    backbone, norm, head = [], [], []
    for name, p in net.named_parameters():
        if name.startswith("layer"):
            backbone.append(p)
        elif "bn" in name or "norm" in name:
            norm.append(p)
        elif name.startswith("classifier"):
            head.append(p)
    groups = [{"params": backbone, "lr": lr * 0.1}, {"params": norm, "lr": lr}, {"params": head, "lr": lr * 10}]
    return [g for g in groups if g["params"]]


def load_pretrained():
    net = Backbone()
    for m in net.modules():
        if isinstance(m, nn.Linear):
            nn.init.orthogonal_(m.weight)
    net.fc = nn.Linear(64, 6)
    nn.init.normal_(net.fc.weight, std=0.01)
    nn.init.zeros_(net.fc.bias)
    return net


centers = torch.randn(6, 20) * 0.9


def features(n):
    y = torch.randint(0, 6, (n,))
    return centers[y] + torch.randn(n, 20), y


train_loader = DataLoader(TensorDataset(*features(1500)), batch_size=50, shuffle=True)
test_loader = DataLoader(TensorDataset(*features(300)), batch_size=100)
model = load_pretrained()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(param_groups(model, lr=0.01), momentum=0.9)

if __name__ == "__main__":
    for epoch in range(10):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
