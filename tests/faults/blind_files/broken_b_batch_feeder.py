import torch
import torch.nn as nn

torch.manual_seed(2)
n = 1500
age = torch.rand(n) * 50 + 20
income = torch.rand(n) * 80 + 10
debt = torch.rand(n) * 40
years = torch.rand(n) * 20
score = 0.04 * (income - 50) - 0.06 * (debt - 20) + 0.05 * (years - 10) + 0.6 * torch.sin(age / 8)
features = torch.stack([age, income, debt, years], 1)
features = (features - features.mean(0)) / features.std(0)
labels = (score + 0.3 * torch.randn(n) > 0).float().unsqueeze(1)


class BatchFeeder:
    """DataLoader was slow for small tables, so this one slices tensors"""

    def __init__(self, x, y, batch_size, shuffle=True):
        self.x, self.y = x, y
        self.batch_size = batch_size
        self.pos = 0
        if shuffle:
            order = torch.randperm(len(x))
            self.x, self.y = x[order], y[order]

    def __len__(self):
        return len(self.x) // self.batch_size

    def next_slice(self):
        pos = self.pos
        if pos + self.batch_size > len(self.x):
            pos = 0
        s = slice(pos, pos + self.batch_size)
        pos += self.batch_size
        return s

    def __iter__(self):
        for _ in range(len(self)):
            s = self.next_slice()
            yield self.x[s], self.y[s]


train_loader = BatchFeeder(features[:1200], labels[:1200], 32)
test_loader = [(features[1200:], labels[1200:])]

model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
loss_fn = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)

if __name__ == "__main__":
    for epoch in range(15):
        running = 0
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            running += loss.item()
        print(epoch, running / len(train_loader))
