import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(104)


class Symptoms(Dataset):
    def __init__(self, n):
        self.rows = []
        for _ in range(n):
            x = torch.randn(9)
            y = torch.zeros(4)
            if x[0] + x[1] > 0.3: y[0] = 1
            if x[2] * x[3] > 0: y[1] = 1
            if abs(x[4]) > 0.8: y[2] = 1
            if y[0] == 1 and x[5] > -0.5: y[3] = 1
            self.rows.append((x, y))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, k):
        return self.rows[k][0], self.rows[k][1]


class Diagnosis(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared1 = nn.Linear(9, 40)
        self.shared2 = nn.Linear(40, 40)
        self.d0 = nn.Linear(40, 1)
        self.d1 = nn.Linear(40, 1)
        self.d2 = nn.Linear(40, 1)
        self.d3 = nn.Linear(40, 1)
        self.sig = nn.Sigmoid()

    def forward(self, x):
        h = torch.relu(self.shared1(x))
        h = torch.relu(self.shared2(h))
        answers = []
        for d in [self.d0, self.d1, self.d2, self.d3]:
            answers.append(self.sig(d(h)))
        return torch.cat(answers, dim=-1)


train_loader = DataLoader(Symptoms(1600), batch_size=32, shuffle=True)
test_loader = DataLoader(Symptoms(300), batch_size=100)
model = Diagnosis()
criterion = nn.BCELoss()
optimizer = torch.optim.Adamax(model.parameters(), lr=0.01)

if __name__ == "__main__":
    for epoch in range(10):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
