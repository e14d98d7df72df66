import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(103)
t = torch.arange(3000).float()
load = 3 * torch.sin(t * 0.26) + torch.sin(t * 0.0374) * 2 + 0.3 * torch.randn(3000)
load = load / load.std()
past = torch.stack([load[i:i + 20] for i in range(2900)])
nxt = torch.stack([load[i + 20:i + 21] for i in range(2900)])

train_loader = DataLoader(TensorDataset(past[:2300], nxt[:2300]), batch_size=50, shuffle=True)
test_loader = DataLoader(TensorDataset(past[2320:], nxt[2320:]), batch_size=100)


class TwoPaths(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear_path = nn.Linear(20, 1)
        self.curved_path = nn.Sequential(nn.Linear(20, 30), nn.Softplus(), nn.Linear(30, 1))

    def forward(self, window):
        straight = self.linear_path(window)
        curved = self.curved_path(window)
        return straight + curved


model = TwoPaths()
criterion = nn.MSELoss(reduction="sum")
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.5)

if __name__ == "__main__":
    for epoch in range(10):
        for w, n in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(w), n)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item() / 50)
