"""A deep network of sigmoids that cannot learn: its gradient shrinks about five-fold at every layer.

gradcheck-kit scan examples/broken_sigmoid.py
"""

import torch
from torch import nn
from torch.utils.data import DataLoader

from gradcheck_kit import load_digits

torch.manual_seed(0)

train_set, test_set = load_digits()
train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
test_loader = DataLoader(test_set, batch_size=128)

layers = [nn.Flatten(), nn.Linear(64, 64), nn.Sigmoid()]
for _ in range(8):
    layers += [nn.Linear(64, 64), nn.Sigmoid()]
model = nn.Sequential(*layers, nn.Linear(64, 10))

loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
