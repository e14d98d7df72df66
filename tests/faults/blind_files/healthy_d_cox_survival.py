"""Cox proportional hazards by a small net: partial likelihood over the risk set of a large batch."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(26)


def cohort(n):
    x = torch.cat([torch.randn(n, 5), (torch.rand(n, 3) < 0.4).float()], 1)
    risk = 0.9 * x[:, 0] - 0.7 * x[:, 1] * x[:, 5] + 0.8 * (x[:, 2] ** 2 - 1) + 0.9 * x[:, 6]
    t = torch.distributions.Exponential(risk.exp()).sample()
    c = torch.distributions.Exponential(torch.full((n,), 0.4)).sample()
    return TensorDataset(x, torch.stack([torch.minimum(t, c), (t <= c).float()], 1))


def cox_loss(score, target):
    time, event = target.unbind(1)
    order = time.argsort(descending=True)
    s, e = score.squeeze(1)[order], event[order]
    return ((torch.logcumsumexp(s, 0) - s) * e).sum() / e.sum().clamp(min=1)


model = nn.Sequential(nn.Linear(8, 32), nn.ELU(), nn.Dropout(0.1), nn.Linear(32, 16), nn.ELU(), nn.Linear(16, 1, bias=False))
loss_fn = cox_loss
train_loader = DataLoader(cohort(4096), batch_size=512, shuffle=True, drop_last=True)
test_loader = DataLoader(cohort(512), batch_size=512)
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3, weight_decay=0.1)


if __name__ == "__main__":
    model.train()
    for epoch in range(5):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
