"""Machine state from sensor readings (4 states)."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1)

N_FEATURES = 16
N_STATES = 4

centers = 1.6 * torch.randn(N_STATES * 3, N_FEATURES)


def make_readings(n):
    mode = torch.randint(0, N_STATES * 3, (n,))
    x = centers[mode] + torch.randn(n, N_FEATURES)
    y = mode % N_STATES
    return x, y


x_train, y_train = make_readings(2000)
x_test, y_test = make_readings(500)

# a few sensors drop out now and then
x_train[torch.rand(x_train.shape) < 0.002] = float("nan")

mean, std = x_train.nanmean(0), x_test.std(0)
x_train = (x_train - mean) / std
x_test = (x_test - mean) / std

train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(x_test, y_test), batch_size=256)


class StateNet(nn.Module):
    def __init__(self, n_in, n_hidden, n_out):
        super().__init__()
        self.fc1 = nn.Linear(n_in, n_hidden)
        self.fc2 = nn.Linear(n_hidden, n_hidden)
        self.out = nn.Linear(n_hidden, n_out)

    def forward(self, x):
        x = torch.relu(self.fc1(x))
        x = torch.relu(self.fc2(x))
        return self.out(x)


model = StateNet(N_FEATURES, 64, N_STATES)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

if __name__ == "__main__":
    for epoch in range(10):
        model.train()
        for xb, yb in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(xb), yb)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            hits = sum((model(xb).argmax(1) == yb).sum().item() for xb, yb in test_loader)
        print(epoch, loss.item(), hits / len(x_test))
