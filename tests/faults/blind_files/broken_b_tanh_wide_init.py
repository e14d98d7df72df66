import math
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(23)


def reset(model, scale):
    with torch.no_grad():
        for name, p in model.named_parameters():
            if name.endswith("weight"):
                p.uniform_(-scale, scale)
            else:
                p.zero_()
    return model


def make_model(hidden=100):
    net = nn.Sequential(
        nn.Linear(10, hidden), nn.Tanh(),
        nn.Linear(hidden, hidden), nn.Tanh(),
        nn.Linear(hidden, hidden), nn.Tanh(),
        nn.Linear(hidden, 1), nn.Tanh())
    return reset(net, scale=2.0)


def motor(n):
    """ten joint angles -> height of the arm tip, between -1 and 1"""
    q = torch.randn(n, 10)
    tip = torch.sin(0.3 * q.cumsum(1)).mean(1, keepdim=True)
    return q, (1.2 * tip).clamp(-0.95, 0.95)


train_loader = DataLoader(TensorDataset(*motor(1600)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*motor(400)), batch_size=200)
model = make_model()
loss_fn = nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

if __name__ == "__main__":
    for epoch in range(15):
        for q, h in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(q), h)
            loss.backward()
            optimizer.step()
        print(epoch, math.sqrt(loss.item()))
