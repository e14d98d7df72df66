import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CONFIG = {"width": 64, "depth": 3, "activation": "SiLU", "dropout": 0.0, "lr": 2e-3}
ACTIVATIONS = {"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh}


def churn(n, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 10, generator=g)
    score = x[:, 0] * x[:, 1] + x[:, 2].abs() - 0.8 + torch.sin(2 * x[:, 3]) * 0.7
    y = (score + 0.1 * torch.randn(n, generator=g) > 0).long()
    return TensorDataset(x, y)


class ResidualBlock(nn.Module):
    def __init__(self, width, activation, dropout):
        super().__init__()
        self.lin1 = nn.Linear(width, 2 * width)
        self.act = ACTIVATIONS.get(activation, nn.Identity)()
        self.drop = nn.Dropout(dropout)
        self.lin2 = nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.lin2(self.drop(self.act(self.lin1(x))))


class TabularResNet(nn.Module):
    def __init__(self, n_features, n_classes, cfg):
        super().__init__()
        self.stem = nn.Linear(n_features, cfg["width"])
        self.blocks = nn.Sequential(*[
            ResidualBlock(cfg["width"], cfg["activation"], cfg["dropout"]) for _ in range(cfg["depth"])])
        self.head = nn.Linear(cfg["width"], n_classes)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)))


torch.manual_seed(1)
train_loader = DataLoader(churn(4000, 0), batch_size=128, shuffle=True)
test_loader = DataLoader(churn(1000, 1), batch_size=250)
model = TabularResNet(10, 2, CONFIG)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=CONFIG["lr"], weight_decay=1e-4)
