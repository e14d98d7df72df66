"""Which tone did the clip start with?  Elman network over frames, written by hand."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def make_sequences(n, frames=24, bands=6):
    x = 0.3 * torch.randn(n, frames, bands)
    y = torch.randint(0, bands, (n,))
    x[torch.arange(n), 0, y] += 2.0
    x[torch.arange(n), 1, y] += 1.5
    return x, y


class ElmanCell(nn.Module):
    def __init__(self, n_in, n_hidden):
        super().__init__()
        self.w_in = nn.Parameter(torch.randn(n_in, n_hidden) / n_in ** 0.5)
        self.w_rec = nn.Parameter(torch.empty(n_hidden, n_hidden))
        nn.init.normal_(self.w_rec, std=0.01)
        self.b = nn.Parameter(torch.zeros(n_hidden))

    def forward(self, x, h):
        return torch.tanh(x @ self.w_in + h @ self.w_rec + self.b)


class OnsetNet(nn.Module):
    def __init__(self, bands=6, hidden=48):
        super().__init__()
        self.cell = ElmanCell(bands, hidden)
        self.out = nn.Linear(hidden, bands)
        self.hidden = hidden

    def forward(self, x):
        h = x.new_zeros(len(x), self.hidden)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], h)
        return self.out(h)


train_loader = DataLoader(TensorDataset(*make_sequences(2000)), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(*make_sequences(300)), batch_size=100)
model = OnsetNet()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
