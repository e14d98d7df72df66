# Which of four switches was pressed first? Sequence classification with a GRU.
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(11)
T, CHANNELS = 20, 4


def make_sequences(n):
    y = torch.randint(0, CHANNELS, (n,))
    x = 0.2 * torch.randn(n, T, CHANNELS)
    start = torch.randint(0, 5, (n,))
    rows = torch.arange(n)
    for k in range(3):
        x[rows, start + k, y] += 2.0
    # another switch may bounce later on
    later = torch.randint(0, CHANNELS, (n,))
    when = torch.randint(10, T - 1, (n,))
    x[rows, when, later] += 0.8
    return x, y


train_x, train_y = make_sequences(2000)
test_x, test_y = make_sequences(400)
train_loader = DataLoader(TensorDataset(train_x, train_y), batch_size=40, shuffle=True)
test_loader = DataLoader(TensorDataset(test_x, test_y), batch_size=100)


class SwitchClassifier(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.gru = nn.GRU(CHANNELS, hidden)
        self.fc = nn.Linear(hidden, CHANNELS)

    def forward(self, x):
        out, h = self.gru(x)
        return self.fc(out[:, -1])


model = SwitchClassifier()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

if __name__ == "__main__":
    for epoch in range(8):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        print(epoch, round(loss.item(), 4))
