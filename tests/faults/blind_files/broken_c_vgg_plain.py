import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
CFG = [16, 16, "M", 24, 24, 24, "M", 32, 32, 32]


def letters(n, size=16):
    proto = (torch.rand(6, 1, size, size, generator=torch.Generator().manual_seed(12)) > 0.6).float()
    proto = nn.functional.avg_pool2d(proto, 3, 1, 1) * 3
    y = torch.randint(0, 6, (n,))
    x = proto[y] + 0.3 * torch.randn(n, 1, size, size)
    return TensorDataset((x - x.mean()) / x.std(), y)


def make_layers(cfg):
    layers, c = [], 1
    for v in cfg:
        if v == "M":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(c, v, 3, padding=1), nn.ReLU(inplace=True)]
            c = v
    return nn.Sequential(*layers), c


class VGG(nn.Module):
    def __init__(self, cfg, n_classes):
        super().__init__()
        self.features, c = make_layers(cfg)
        self.classifier = nn.Sequential(nn.Linear(c * 16, 64), nn.ReLU(inplace=True), nn.Linear(64, n_classes))
        self._initialize_weights()

    def _initialize_weights(self):
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.normal_(m.weight, 0, 0.01)
                nn.init.zeros_(m.bias)
            elif isinstance(m, nn.Linear):
                nn.init.kaiming_normal_(m.weight)
                nn.init.zeros_(m.bias)

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


train_loader = DataLoader(letters(1500), batch_size=50, shuffle=True)
test_loader = DataLoader(letters(300), batch_size=100)
model = VGG(CFG, n_classes=6)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.002, momentum=0.9, weight_decay=5e-4)
