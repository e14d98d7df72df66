import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(26)


class Backbone(nn.Module):
    def __init__(self, width=64, depth=6):
        super().__init__()
        self.stem = nn.Linear(12, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU()) for _ in range(depth))
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        x = self.stem(x)
        for b in self.blocks:
            x = x + b(x)
        return self.head(x)


def layer_groups(net, base_lr=1e-3, decay=0.1):
    """layer-wise learning rate decay: the deeper from the top the slower"""
    order = [net.stem] + list(net.blocks) + [net.head]
    groups = []
    for depth, part in enumerate(order):
        groups.append({"params": list(part.parameters()), "lr": base_lr * decay ** (len(order) - depth)})
    return groups


def table(n):
    x = torch.randn(n, 12)
    s = torch.stack([x[:, 0] * x[:, 1], x[:, 2] * 1.2, x[:, 3] - x[:, 4].abs() + 0.5], 1)
    return x, s.argmax(1)


train_loader = DataLoader(TensorDataset(*table(2000)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*table(400)), batch_size=200)
model = Backbone()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(layer_groups(model), weight_decay=0.01)

if __name__ == "__main__":
    for epoch in range(10):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
