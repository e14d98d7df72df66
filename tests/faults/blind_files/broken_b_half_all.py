import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(30)
DTYPE = torch.float16


class Waves(Dataset):
    def __init__(self, n):
        self.kind = torch.randint(0, 3, (n,))
        t = torch.linspace(0, 1, 64)
        f = 2.0 + 2.0 * self.kind.float() + 0.3 * torch.randn(n)
        self.x = torch.sin(6.2832 * f[:, None] * t + 6.28 * torch.rand(n, 1)) + 0.3 * torch.randn(n, 64)

    def __len__(self):
        return len(self.kind)

    def __getitem__(self, i):
        return self.x[i].unsqueeze(0).to(DTYPE), self.kind[i]


class Net1d(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(1, 16, 9, stride=2, padding=4), nn.ReLU(),
            nn.Conv1d(16, 16, 9, stride=2, padding=4), nn.ReLU())
        self.fc = nn.Linear(16 * 16, 3)

    def forward(self, x):
        return self.fc(self.conv(x).flatten(1))


def to_fast(net):
    return net.to(DTYPE)


train_loader = DataLoader(Waves(1280), batch_size=64, shuffle=True)
test_loader = DataLoader(Waves(256), batch_size=64)
model = to_fast(Net1d())
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
