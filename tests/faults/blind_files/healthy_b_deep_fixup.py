import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(108)
DEPTH = 30


class FixupBlock(nn.Module):
    """residual branch starts at zero, so no normalisation is needed"""

    def __init__(self, dim):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1))
        self.a = nn.Linear(dim, dim)
        self.b = nn.Linear(dim, dim)

    def forward(self, x):
        return x + self.b(torch.relu(self.a(x + self.shift)))


class DeepNet(nn.Module):
    def __init__(self, n_in, dim, n_out):
        super().__init__()
        self.start = nn.Linear(n_in, dim)
        self.blocks = nn.ModuleList([FixupBlock(dim) for _ in range(DEPTH)])
        self.end = nn.Linear(dim, n_out)
        self.apply(self.init)

    def init(self, m):
        if isinstance(m, FixupBlock):
            nn.init.normal_(m.a.weight, std=(2 / m.a.in_features) ** 0.5 * DEPTH ** -0.5)
            nn.init.zeros_(m.b.weight)
            nn.init.zeros_(m.b.bias)

    def forward(self, x):
        x = self.start(x)
        for block in self.blocks:
            x = block(x)
        return self.end(torch.relu(x))


def spiral(n):
    y = torch.randint(0, 3, (n,))
    r = torch.rand(n) * 0.9 + 0.1
    a = r * 4 + y * 2.094 + 0.12 * torch.randn(n)
    return torch.stack([r * a.sin(), r * a.cos()], 1) * 2, y


train_loader = DataLoader(TensorDataset(*spiral(2000)), batch_size=100, shuffle=True)
test_loader = DataLoader(TensorDataset(*spiral(400)), batch_size=100)
model = DeepNet(2, 32, 3)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

if __name__ == "__main__":
    for epoch in range(15):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
