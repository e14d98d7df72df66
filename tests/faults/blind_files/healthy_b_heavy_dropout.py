import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(107)
PROTO = torch.randn(8, 40)


def reviews(n):
    y = torch.randint(0, 8, (n,))
    return PROTO[y] * 0.8 + torch.randn(n, 40), y


def block(i, o, p):
    return [nn.Linear(i, o), nn.BatchNorm1d(o), nn.ReLU(inplace=True), nn.Dropout(p)]


model = nn.Sequential(
    nn.Dropout(0.2),
    *block(40, 256, 0.6),
    *block(256, 256, 0.6),
    *block(256, 64, 0.5),
    nn.Linear(64, 8),
)
train_loader = DataLoader(TensorDataset(*reviews(3200)), batch_size=64, shuffle=True, drop_last=True)
test_loader = DataLoader(TensorDataset(*reviews(400)), batch_size=100)
criterion = nn.CrossEntropyLoss(label_smoothing=0.05)
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.05)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=500)

if __name__ == "__main__":
    for epoch in range(10):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
            scheduler.step()
        model.eval()
        with torch.no_grad():
            print(epoch, loss.item(), sum((model(x).argmax(1) == y).sum().item() for x, y in test_loader) / 400)
