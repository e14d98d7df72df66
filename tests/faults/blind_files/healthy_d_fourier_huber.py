"""Random Fourier features, heavy-tailed noise (Student t, 1.5 degrees), Huber loss, averaged SGD."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(14)
student = torch.distributions.StudentT(1.5)


def make(n, noise):
    x = torch.rand(n, 3) * 2 - 1
    f = torch.sin(3 * x[:, 0]) + x[:, 1] * x[:, 2] * 2 - 0.5 * (x[:, 1] > 0.2)
    return TensorDataset(x, (f + noise * student.sample((n,))).unsqueeze(1))


class RandomFeatures(nn.Module):
    def __init__(self, n_in, n_features, lengthscale):
        super().__init__()
        self.register_buffer("freq", torch.randn(n_in, n_features) / lengthscale)
        self.register_buffer("phase", torch.rand(n_features) * 6.2832)

    def forward(self, x):
        return 2 ** 0.5 * torch.cos(x @ self.freq + self.phase)


model = nn.Sequential(RandomFeatures(3, 400, 0.5), nn.Linear(400, 1))
nn.init.zeros_(model[1].weight)
nn.init.zeros_(model[1].bias)
train_loader = DataLoader(make(4000, 0.15), batch_size=100, shuffle=True)
test_loader = DataLoader(make(500, 0.0), batch_size=250)
criterion = nn.HuberLoss(delta=0.5)
optimizer = torch.optim.ASGD(model.parameters(), lr=8e-3, t0=200, weight_decay=1e-5)


if __name__ == "__main__":
    model.train()
    for epoch in range(5):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
