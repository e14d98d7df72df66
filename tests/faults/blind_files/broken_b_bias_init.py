import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(22)
PRIOR = -6.0


def init_net(module):
    # start from rare positives, as in the detection paper
    if isinstance(module, nn.Linear):
        nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
        nn.init.constant_(module.bias, PRIOR)


class MultiLabel(nn.Module):
    def __init__(self, n_in=16, n_tags=5):
        super().__init__()
        self.fc1 = nn.Linear(n_in, 64)
        self.fc2 = nn.Linear(64, 64)
        self.out = nn.Linear(64, n_tags)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.out(x)


def data(n):
    x = torch.randn(n, 16)
    w = torch.randn(16, 5, generator=torch.Generator().manual_seed(1))
    score = x @ w / 4 + 0.6 * x[:, :5] * x[:, 5:10]
    return x, (score > 0.3).float()


train_loader = DataLoader(TensorDataset(*data(1600)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*data(400)), batch_size=100)
model = MultiLabel()
model.apply(init_net)
loss_fn = nn.BCEWithLogitsLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

if __name__ == "__main__":
    for epoch in range(15):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
