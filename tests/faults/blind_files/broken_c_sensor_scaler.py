import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


def machine_logs(n, seed):
    """12 channels x 40 ticks; a fault shows as a burst on channel pairs."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 12, 40, generator=g) * torch.rand(12, 1, generator=torch.Generator().manual_seed(1)) * 5 + 20
    y = torch.randint(0, 4, (n,), generator=g)
    start = torch.randint(0, 30, (n,), generator=g)
    for i in range(n):
        x[i, 3 * y[i]:3 * y[i] + 2, start[i]:start[i] + 10] += 6.0
    x[:, 11] = 1.0
    return x, y


class StandardScaler:
    def fit(self, x):
        self.mean = x.mean(dim=(0, 2), keepdim=True)
        self.scale = x.std(dim=(0, 2), keepdim=True)
        return self

    def transform(self, x):
        return (x - self.mean) / self.scale


class SensorDataset(Dataset):
    def __init__(self, x, y, scaler):
        self.x, self.y = scaler.transform(x), y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class ConvNet1d(nn.Module):
    def __init__(self, channels=12, width=32, n_classes=4):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv1d(channels, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(width, width, 5, padding=2), nn.BatchNorm1d(width), nn.ReLU())
        self.head = nn.Linear(width, n_classes)

    def forward(self, x):
        return self.head(self.features(x).amax(2))


torch.manual_seed(0)
x_train, y_train = machine_logs(1500, 0)
x_test, y_test = machine_logs(300, 2)
scaler = StandardScaler().fit(x_train)
train_loader = DataLoader(SensorDataset(x_train, y_train, scaler), batch_size=50, shuffle=True)
test_loader = DataLoader(SensorDataset(x_test, y_test, scaler), batch_size=100)
model = ConvNet1d()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
