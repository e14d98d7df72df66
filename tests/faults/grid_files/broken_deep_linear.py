"""Plain deep network on nested rings."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

torch.manual_seed(3)

DEPTH = 10
WIDTH = 64


def rings(n):
    label = torch.randint(0, 3, (n,))
    direction = torch.randn(n, 6)
    direction = direction / direction.norm(dim=1, keepdim=True)
    radius = 1.0 + label + 0.15 * torch.randn(n)
    return direction * radius[:, None], label


def init_weights(m):
    if isinstance(m, nn.Linear):
        nn.init.xavier_normal_(m.weight)
        nn.init.zeros_(m.bias)


def build():
    layers = [nn.Linear(6, WIDTH)]
    for _ in range(DEPTH - 2):
        layers += [nn.Linear(WIDTH, WIDTH)]
    net = nn.Sequential(*layers)
    net.apply(init_weights)
    net.append(nn.Linear(WIDTH, 3))
    return net


data = TensorDataset(*rings(3000))
train_set, test_set = random_split(data, [2500, 500])
train_loader = DataLoader(train_set, batch_size=50, shuffle=True)
test_loader = DataLoader(test_set, batch_size=250)

model = build()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
