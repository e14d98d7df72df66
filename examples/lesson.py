"""The lesson: how a network learns, why a deep one of sigmoids does not, and what helps.

A batch goes forward, the loss goes backward, the optimizer updates; an epoch prints the mean of its losses. Then the
gradient norms of the first, middle and last layers, side by side: a deep network of sigmoids next to the same depth
with ReLU, with BatchNorm and with residual connections. At last, accuracy on test data, in evaluation mode and without
gradients.

    python examples/lesson.py [--epochs 5]
"""

import argparse

import torch
from tabulate import tabulate
from torch import nn
from torch.utils.data import DataLoader

from gradcheck_kit import load_digits

WIDTH, DEPTH = 64, 12


class Residual(nn.Module):
    """x + block(x): the gradient has a way past the block."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.BatchNorm1d(WIDTH), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))

    def forward(self, x):
        return x + self.block(x)


def build(kind):
    first, last = [nn.Flatten(), nn.Linear(64, WIDTH)], [nn.Linear(WIDTH, 10)]
    middle = []
    for _ in range(DEPTH - 2):
        if kind == "sigmoid":
            middle += [nn.Sigmoid(), nn.Linear(WIDTH, WIDTH)]
        elif kind == "ReLU":
            middle += [nn.ReLU(), nn.Linear(WIDTH, WIDTH)]
        elif kind == "BatchNorm":
            middle += [nn.BatchNorm1d(WIDTH), nn.Sigmoid(), nn.Linear(WIDTH, WIDTH)]
    if kind == "residual":
        middle = [Residual() for _ in range((DEPTH - 2) // 2)]
    model = nn.Sequential(*first, *middle, *last)
    if kind == "ReLU":
        for module in model:
            if isinstance(module, nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)
    return model


def train_one_epoch(model, loader, loss_fn, optimizer):
    """The mean loss of the epoch."""
    model.train()
    total = 0.0
    for images, labels in loader:  # a batch of 64
        predictions = model(images)  # forward pass
        loss = loss_fn(predictions, labels)
        optimizer.zero_grad()  # gradients add up unless they are cleared
        loss.backward()  # backpropagation
        optimizer.step()  # update
        total += loss.item()
    return total / len(loader)


def gradient_norms(model):
    """The norms of the weight gradients, from the first layer to the last, left by the last backward pass."""
    return [m.weight.grad.norm().item() for m in model.modules() if isinstance(m, nn.Linear)]


@torch.no_grad()
def accuracy(model, loader):
    model.eval()  # dropout off, BatchNorm uses its running statistics
    correct = sum((model(images).argmax(1) == labels).sum().item() for images, labels in loader)
    return correct / len(loader.dataset)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5)
    epochs = parser.parse_args().epochs
    train_set, test_set = load_digits()
    test_loader = DataLoader(test_set, batch_size=128)
    rows = []
    for kind in ("sigmoid", "ReLU", "BatchNorm", "residual"):
        torch.manual_seed(0)
        model = build(kind)
        train_loader = DataLoader(train_set, batch_size=64, shuffle=True)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        loss_fn = nn.CrossEntropyLoss()
        print(f"{kind}: {DEPTH} layers")
        norms = []
        for epoch in range(epochs):
            mean_loss = train_one_epoch(model, train_loader, loss_fn, optimizer)
            norms = norms or gradient_norms(model)
            print(f"  epoch {epoch + 1}  mean loss {mean_loss:.3f}")
        first, middle, last = norms[0], norms[len(norms) // 2], norms[-1]
        rows.append([kind, first, middle, last, first / last, f"{accuracy(model, test_loader):.1%}"])
    print()
    print("Gradient norms after the first epoch, and accuracy on test data after the last:")
    print()
    headers = ["network", "first layer", "middle", "last layer", "first/last", "test accuracy"]
    print(tabulate(rows, headers, floatfmt=".1e"))
    print()
    print("The sigmoids' gradient hardly reaches the first layers, so they do not learn. Ask about your own model:")
    print("  gradcheck-kit scan examples/broken_sigmoid.py")


if __name__ == "__main__":
    main()
