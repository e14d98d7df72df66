"""Two Kolmogorov-Arnold layers (hat-function splines on every edge), full batch LBFGS."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(16)
X = torch.rand(800, 3) * 2 - 1
y = torch.exp(torch.sin(3.1416 * X[:, 0]) * 0.6 + X[:, 1] ** 2 - 0.5 * X[:, 2].abs())
y = ((y - y.mean()) / y.std()).unsqueeze(1)


class KANLayer(nn.Module):
    def __init__(self, n_in, n_out, grid=8, span=1.0):
        super().__init__()
        self.register_buffer("knots", torch.linspace(-span, span, grid))
        self.h = 2 * span / (grid - 1)
        self.coef = nn.Parameter(torch.randn(n_in, grid, n_out) * 0.1 / n_in ** 0.5)
        self.base = nn.Parameter(torch.randn(n_in, n_out) / n_in ** 0.5)

    def forward(self, x):
        basis = torch.relu(1 - (x.unsqueeze(-1) - self.knots).abs() / self.h)
        return torch.einsum("big,igo->bo", basis, self.coef) + nn.functional.silu(x) @ self.base


model = nn.Sequential(KANLayer(3, 5), KANLayer(5, 1, span=2.0))
train_loader = DataLoader(TensorDataset(X[:640], y[:640]), batch_size=640)
test_loader = DataLoader(TensorDataset(X[640:], y[640:]), batch_size=160)
criterion = nn.MSELoss()
optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=5, history_size=20, line_search_fn="strong_wolfe")


if __name__ == "__main__":
    model.train()
    for epoch in range(5):
        for batch in train_loader:
            def closure():
                optimizer.zero_grad()
                loss = criterion(model(batch[0]), batch[1])
                loss.backward()
                return loss

            loss = optimizer.step(closure)
        print(f"epoch {epoch}: {loss.item():.4f}")
