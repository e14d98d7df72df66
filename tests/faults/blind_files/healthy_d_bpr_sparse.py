"""Collaborative filtering by BPR: sampled negatives, sparse embeddings, SparseAdam."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(39)
USERS, ITEMS = 200, 120
taste, style = torch.randn(USERS, 4), torch.randn(ITEMS, 4)
prob = (1.5 * taste @ style.T + 0.5 * torch.randn(ITEMS)).softmax(1)
seen = torch.multinomial(prob, 40, replacement=True)
pairs = torch.stack([torch.arange(USERS).repeat_interleave(40), seen.flatten()], 1)


class MF(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.user = nn.Embedding(USERS, d, sparse=True)
        self.item = nn.Embedding(ITEMS, d, sparse=True)
        self.bias = nn.Embedding(ITEMS, 1, sparse=True)
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)
        nn.init.zeros_(self.bias.weight)

    def forward(self, u, i):
        return (self.user(u) * self.item(i)).sum(-1) + self.bias(i).squeeze(-1)


def training_step(model, batch):
    u, i = batch[0].unbind(1)
    j = torch.randint(0, ITEMS, (len(u), 4))
    gap = model(u, i).unsqueeze(1) - model(u.unsqueeze(1).expand(-1, 4), j)
    return -F.logsigmoid(gap).mean()


train_loader = DataLoader(TensorDataset(pairs), batch_size=256, shuffle=True)
model = MF()
optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=0.01)


if __name__ == "__main__":
    model.train()
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
