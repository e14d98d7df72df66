"""Pointer network that sorts six numbers; log-probabilities with NLLLoss, visited items masked with -inf."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(23)


def make(n, k=6):
    x = torch.rand(n, k)
    return TensorDataset(x, x.argsort(1))


class PointerNet(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.enc = nn.LSTM(1, d, batch_first=True, bidirectional=True)
        self.cell = nn.LSTMCell(2 * d, d)
        self.k, self.q, self.v = nn.Linear(2 * d, d), nn.Linear(d, d, bias=False), nn.Linear(d, 1, bias=False)
        self.start = nn.Parameter(torch.zeros(2 * d))

    def forward(self, x):
        e, _ = self.enc(x.unsqueeze(-1) * 2 - 1)
        keys, rows = self.k(e), torch.arange(len(x))
        inp, state = self.start.expand(len(x), -1), None
        taken = torch.zeros(x.shape, dtype=torch.bool)
        steps = []
        for _ in range(x.shape[1]):
            state = self.cell(inp, state)
            score = self.v(torch.tanh(keys + self.q(state[0]).unsqueeze(1))).squeeze(-1)
            logp = score.masked_fill(taken, float("-inf")).log_softmax(1)
            steps.append(logp)
            pick = torch.where(taken, 2.0, x).argmin(1) if self.training else logp.argmax(1)
            taken = taken.clone()
            taken[rows, pick] = True
            inp = e[rows, pick]
        return torch.stack(steps, 1)


def loss_fn(logp, order):
    return nn.functional.nll_loss(logp.flatten(0, 1), order.flatten())


train_loader = DataLoader(make(4000), batch_size=64, shuffle=True)
model = PointerNet()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.999)


if __name__ == "__main__":
    model.train()
    for epoch in range(20):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            scheduler.step()
        print(epoch, loss.item())
