"""The adding problem with an identity-initialised ReLU recurrent net (Le, Jaitly, Hinton 2015)."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1)
T = 10


def adding(n):
    values = torch.rand(n, T)
    marks = torch.zeros(n, T)
    marks.scatter_(1, torch.randint(0, T // 2, (n, 1)), 1.0)
    marks.scatter_(1, torch.randint(T // 2, T, (n, 1)), 1.0)
    return torch.stack([values, marks], -1), (values * marks).sum(1, keepdim=True)


class IRNN(nn.Module):
    def __init__(self, hidden=64):
        super().__init__()
        self.rnn = nn.RNN(2, hidden, nonlinearity="relu", batch_first=True)
        nn.init.eye_(self.rnn.weight_hh_l0)
        nn.init.normal_(self.rnn.weight_ih_l0, std=0.4)
        nn.init.zeros_(self.rnn.bias_ih_l0)
        nn.init.zeros_(self.rnn.bias_hh_l0)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        out, _ = self.rnn(x)
        return self.head(out[:, -1])


train_loader = DataLoader(TensorDataset(*adding(4000)), batch_size=100, shuffle=True)
test_loader = DataLoader(TensorDataset(*adding(500)), batch_size=250)
model = IRNN()
criterion = nn.MSELoss()
optimizer = torch.optim.RMSprop(model.parameters(), lr=5e-4, alpha=0.99)


if __name__ == "__main__":
    model.train()
    for epoch in range(20):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
