"""Seventeen float64 parameters learn soft exclusive-or, binary inputs, SGD with momentum."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(43)
bits = torch.randint(0, 2, (800, 2)).double()
label = ((bits[:, 0] != bits[:, 1]) ^ (torch.rand(800) < 0.03)).double().unsqueeze(1)

model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
nn.init.normal_(model[0].weight, std=1.0)
train_loader = DataLoader(TensorDataset(bits, label), batch_size=40, shuffle=True)
loss_fn = nn.BCEWithLogitsLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.8)


if __name__ == "__main__":
    model.train()
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
