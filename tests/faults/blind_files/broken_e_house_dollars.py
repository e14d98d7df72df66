import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

gen = torch.Generator().manual_seed(17)


class Houses(Dataset):
    FIELDS = ["area", "rooms", "age", "distance", "garden"]

    def __init__(self, n):
        z = torch.randn(n, 5, generator=gen)
        price = 420000 + 95000 * z[:, 0] + 22000 * z[:, 1] - 30000 * z[:, 2] * (z[:, 3] > 0) \
            - 41000 * z[:, 3] + 15000 * z[:, 4] ** 2 + 8000 * torch.randn(n, generator=gen)
        self.rows = [dict(zip(self.FIELDS, r.tolist()), price=p) for r, p in zip(z, price.tolist())]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        row = self.rows[i]
        x = torch.tensor([row[f] for f in self.FIELDS])
        return x, torch.tensor([row["price"]])


class PriceNet(nn.Module):
    def __init__(self, width=64):
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(5, width), nn.Linear(width, width)])
        self.price = nn.Linear(width, 1)

    def forward(self, x):
        for layer in self.hidden:
            x = torch.relu(layer(x))
        return self.price(x)


torch.manual_seed(17)
train_loader = DataLoader(Houses(1500), batch_size=50, shuffle=True)
test_loader = DataLoader(Houses(300), batch_size=100)
model = PriceNet()
loss_fn = nn.L1Loss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

if __name__ == "__main__":
    for epoch in range(10):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}  mean abs error {loss.item():.0f}")
