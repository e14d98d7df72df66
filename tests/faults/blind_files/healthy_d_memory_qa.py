"""End-to-end memory network: "where is X?" after a story of moves; the latest move counts."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(22)
ACTORS, PLACES, LEN = 4, 5, 8


def stories(n):
    who, where = torch.randint(0, ACTORS, (n, LEN)), torch.randint(0, PLACES, (n, LEN))
    ask = who.gather(1, torch.randint(0, LEN, (n, 1)))
    last = ((who == ask) * torch.arange(1, LEN + 1)).argmax(1, keepdim=True)
    story = torch.stack([who, ACTORS + where], -1)
    return TensorDataset(torch.cat([story.flatten(1), ask], 1), where.gather(1, last).squeeze(1))


class MemN2N(nn.Module):
    def __init__(self, d=32, hops=2):
        super().__init__()
        self.key, self.value, self.query = (nn.Embedding(ACTORS + PLACES, d) for _ in range(3))
        self.time = nn.Parameter(torch.randn(LEN, d) * 0.3)
        self.hops, self.step = hops, nn.Linear(d, d, bias=False)
        nn.init.orthogonal_(self.step.weight)
        self.out = nn.Linear(d, PLACES)

    def forward(self, packed):
        story, ask = packed[:, :-1].view(-1, LEN, 2), packed[:, -1]
        m, c = self.key(story).sum(2) + self.time, self.value(story).sum(2)
        u = self.query(ask)
        for _ in range(self.hops):
            p = torch.einsum("btd,bd->bt", m, u).div(m.shape[-1] ** 0.5).softmax(1)
            u = self.step(u) + torch.einsum("bt,btd->bd", p, c)
        return self.out(u)


train_loader = DataLoader(stories(4000), batch_size=64, shuffle=True)
test_loader = DataLoader(stories(500), batch_size=250)
model = MemN2N()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)


if __name__ == "__main__":
    model.train()
    for epoch in range(5):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
