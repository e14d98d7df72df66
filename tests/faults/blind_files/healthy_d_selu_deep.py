"""Self-normalising network: 16 SELU layers, LeCun init, no normalisation layer, plain SGD."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

gen = torch.Generator().manual_seed(3)
X = torch.randn(12000, 20, generator=gen)
W = torch.randn(20, 5, generator=gen)
y = (torch.tanh(X @ W) + 0.5 * (X[:, :5] ** 2 - 1)).argmax(1)

torch.manual_seed(3)
layers, width = [], 64
for i in range(16):
    lin = nn.Linear(20 if i == 0 else width, width)
    nn.init.normal_(lin.weight, std=lin.in_features ** -0.5)
    nn.init.zeros_(lin.bias)
    layers += [lin, nn.SELU()]
layers.append(nn.AlphaDropout(0.03))
head = nn.Linear(width, 5)
nn.init.normal_(head.weight, std=width ** -0.5)
nn.init.zeros_(head.bias)
model = nn.Sequential(*layers, head)

train_loader = DataLoader(TensorDataset(X[:11400], y[:11400]), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(X[11400:], y[11400:]), batch_size=200)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.5)


if __name__ == "__main__":
    model.train()
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
