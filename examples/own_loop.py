"""Watch a training loop of your own: python examples/own_loop.py

The loop is as it was; `Monitor` around it says afterwards what `gradcheck-kit scan` would say of it.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader

import gradcheck_kit as gk

torch.manual_seed(0)
train_set, _ = gk.load_digits()
loader = DataLoader(train_set, batch_size=64, shuffle=True)

hidden = [layer for _ in range(7) for layer in (nn.Linear(64, 64), nn.Sigmoid())]
model = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)


def train(epochs):
    for epoch in range(epochs):
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(x)
        print(f"epoch {epoch + 1}: mean loss {total / len(train_set):.3f}")


with gk.Monitor(model, optimizer=optimizer) as monitor:
    train(epochs=3)

print(monitor.report())
