import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class FusedLinearRelu(torch.autograd.Function):
    """linear + relu in one node, keeps only what backward needs"""

    @staticmethod
    def forward(ctx, x, weight, bias):
        out = (x @ weight.t() + bias).clamp(min=0)
        ctx.save_for_backward(x, weight, out)
        return out

    @staticmethod
    def backward(ctx, grad_out):
        x, weight, out = ctx.saved_tensors
        g = grad_out * (out <= 0)
        return g @ weight, g.t() @ x, g.sum(0)


class FusedLayer(nn.Module):
    def __init__(self, n_in, n_out):
        super().__init__()
        ref = nn.Linear(n_in, n_out)
        self.weight, self.bias = ref.weight, ref.bias

    def forward(self, x):
        return FusedLinearRelu.apply(x, self.weight, self.bias)


torch.manual_seed(5)
X = torch.rand(2000, 6) * 2 - 1
y = torch.sin(3 * X[:, 0]) + X[:, 1] * X[:, 2] - X[:, 3].pow(2) + 0.5 * X[:, 4]
y = ((y - y.mean()) / y.std()).unsqueeze(1) + 0.05 * torch.randn(2000, 1)

train_loader = DataLoader(TensorDataset(X[:1600], y[:1600]), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(X[1600:], y[1600:]), batch_size=400)

model = nn.Sequential(FusedLayer(6, 64), FusedLayer(64, 64), FusedLayer(64, 64), nn.Linear(64, 1))
loss_fn = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

if __name__ == "__main__":
    for epoch in range(20):
        for xb, yb in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(xb), yb)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
