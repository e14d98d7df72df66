import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(106)


class Flowers(Dataset):
    """90 flowers, 3 kinds, petal and sepal sizes in cm, scaled"""

    def __init__(self, per_kind):
        centre = [(5.0, 3.4, 1.5, 0.2), (5.9, 2.8, 4.3, 1.3), (6.6, 3.0, 5.6, 2.0)]
        x = torch.cat([torch.tensor(c) + torch.randn(per_kind, 4) * torch.tensor([.35, .3, .3, .15]) for c in centre])
        self.x = (x - torch.tensor([5.8, 3.0, 3.8, 1.2])) / torch.tensor([0.8, 0.4, 1.7, 0.76])
        self.y = torch.arange(3).repeat_interleave(per_kind)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class Perceptron(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layer = nn.Linear(4, 10)
        self.output_layer = nn.Linear(10, 3)

    def forward(self, x):
        hidden = self.input_layer(x)
        hidden = torch.sigmoid(hidden)
        return self.output_layer(hidden)


train_loader = DataLoader(Flowers(30), batch_size=1, shuffle=True)
test_loader = DataLoader(Flowers(20), batch_size=1)
model = Perceptron()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

if __name__ == "__main__":
    for epoch in range(15):
        summe = 0
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            summe += loss.item()
        print(epoch, summe / 90)
