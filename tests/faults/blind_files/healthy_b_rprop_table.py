import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(100)
N_ROWS = 600
tabelle = torch.rand(N_ROWS, 7) * torch.tensor([1.0, 50.0, 3.0, 1000.0, 2.0, 5.0, 1.0])
mittel, streu = tabelle.mean(0), tabelle.std(0)
tabelle = (tabelle - mittel) / streu
ziel = tabelle[:, 0] * tabelle[:, 1] + torch.sin(2 * tabelle[:, 2]) - 0.5 * tabelle[:, 3]
ziel = ziel.reshape(-1, 1)
ziel = (ziel - ziel.mean()) / ziel.std()

# Rprop wants the whole table in one batch
train_loader = DataLoader(TensorDataset(tabelle[:480], ziel[:480]), batch_size=480)
test_loader = DataLoader(TensorDataset(tabelle[480:], ziel[480:]), batch_size=120)


class Netz(nn.Module):
    def __init__(self):
        super(Netz, self).__init__()
        self.schicht_a = nn.Linear(7, 24)
        self.schicht_b = nn.Linear(24, 24)
        self.schicht_c = nn.Linear(24, 1)

    def forward(self, eingabe):
        a = self.schicht_a(eingabe)
        a = torch.tanh(a)
        b = self.schicht_b(a)
        b = torch.tanh(b)
        c = self.schicht_c(b)
        return c


model = Netz()
criterion = nn.MSELoss()
optimizer = torch.optim.Rprop(model.parameters(), lr=0.005)

if __name__ == "__main__":
    for runde in range(200):
        for x, y in train_loader:
            optimizer.zero_grad()
            fehler = criterion(model(x), y)
            fehler.backward()
            optimizer.step()
        if runde % 20 == 0:
            print(runde, fehler.item())
