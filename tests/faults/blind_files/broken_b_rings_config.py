import math
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

CONFIG = {
    "dims": [2, 64, 64, 64, 3],
    "activation": "ReLU",
    "lr": 5e-3,
    "batch": 64,
    "seed": 11,
}

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}


def get_activation(name):
    return ACTIVATIONS.get(name, nn.Identity)()


def build(cfg):
    layers = []
    dims = cfg["dims"]
    for i, (a, b) in enumerate(zip(dims[:-1], dims[1:])):
        layers.append(nn.Linear(a, b))
        if i < len(dims) - 2:
            layers.append(get_activation(cfg["activation"]))
    return nn.Sequential(*layers)


def rings(n):
    label = torch.randint(0, 3, (n,))
    radius = 0.5 + label.float() * 0.7 + 0.12 * torch.randn(n)
    angle = torch.rand(n) * 2 * math.pi
    return torch.stack([radius * angle.cos(), radius * angle.sin()], 1), label


def loader(n, shuffle):
    return DataLoader(TensorDataset(*rings(n)), batch_size=CONFIG["batch"], shuffle=shuffle)


torch.manual_seed(CONFIG["seed"])
train_loader = loader(1500, True)
test_loader = loader(400, False)
model = build(CONFIG)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=CONFIG["lr"])

if __name__ == "__main__":
    for epoch in range(20):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
