"""Hypernetwork: from a task's angle (radians) and amplitude it generates the weights of a small regressor."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(17)
N, K, H = 1500, 16, 12
angle = torch.rand(N, 1) * 6.2832
amp = torch.rand(N, 1) + 0.5
x = torch.rand(N, K, 1) * 2 - 1
y = amp.unsqueeze(1) * torch.sin(3 * x + angle.unsqueeze(1)) + 0.02 * torch.randn(N, K, 1)


class HyperNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.sizes = [H, H, H, 1]
        self.gen = nn.Sequential(nn.Linear(3, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, sum(self.sizes)))
        with torch.no_grad():
            self.gen[-1].weight.mul_(0.3)
            self.gen[-1].bias[:H].normal_(std=2.0)
            self.gen[-1].bias[H:2 * H].uniform_(-1, 1)

    def forward(self, task, x):
        z = torch.cat([task[:, :1].cos(), task[:, :1].sin(), task[:, 1:]], 1)
        w1, b1, w2, b2 = self.gen(z).split(self.sizes, 1)
        h = torch.tanh(x * w1.unsqueeze(1) + b1.unsqueeze(1))
        return (h * w2.unsqueeze(1)).sum(-1, keepdim=True) + b2.unsqueeze(1)


def training_step(model, batch):
    task, x, y = batch
    return nn.functional.mse_loss(model(task, x), y)


train_loader = DataLoader(TensorDataset(torch.cat([angle, amp], 1), x, y), batch_size=30, shuffle=True)
model = HyperNet()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(5):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
