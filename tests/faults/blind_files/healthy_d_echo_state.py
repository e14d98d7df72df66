"""Echo state network on NARMA-10-like data: frozen random reservoir, trained linear readout."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(13)


def narma(n, length=80):
    u = torch.rand(n, length) * 0.5
    y = torch.zeros(n, length)
    for t in range(3, length - 1):
        y[:, t + 1] = 0.4 * y[:, t] + 0.4 * y[:, t] * y[:, t - 2:t + 1].mean(1) + 0.6 * u[:, t - 2] * u[:, t] + 0.1
    return u.unsqueeze(-1), (y - 0.28) / 0.09


class EchoState(nn.Module):
    def __init__(self, size=150, radius=0.8, leak=0.7, washout=20):
        super().__init__()
        w = torch.randn(size, size) * (torch.rand(size, size) < 0.1)
        self.register_buffer("w", w * radius / torch.linalg.eigvals(w).abs().max())
        self.register_buffer("w_in", torch.empty(size, 1).uniform_(-1, 1))
        self.register_buffer("bias", torch.empty(size).uniform_(-0.5, 0.5))
        self.leak, self.washout = leak, washout
        self.norm = nn.BatchNorm1d(size, affine=False)
        self.readout = nn.Linear(size, 1)

    @torch.no_grad()
    def states(self, u):
        h, out = u.new_zeros(len(u), len(self.bias)), []
        for t in range(u.shape[1]):
            h = (1 - self.leak) * h + self.leak * torch.tanh(u[:, t] @ self.w_in.T + h @ self.w.T + self.bias)
            out.append(h)
        return torch.stack(out[self.washout:], 1)

    def forward(self, u):
        s = self.states(u)
        z = self.norm(s.flatten(0, 1)).view_as(s)
        return self.readout(z).squeeze(-1)


def make(n):
    u, y = narma(n)
    return TensorDataset(u[:, :-1], y[:, 21:])


train_loader = DataLoader(make(300), batch_size=30, shuffle=True)
test_loader = DataLoader(make(60), batch_size=60)
model = EchoState()
loss_fn = nn.MSELoss()
optimizer = torch.optim.Adam(model.readout.parameters(), lr=0.02)


if __name__ == "__main__":
    model.train()
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
