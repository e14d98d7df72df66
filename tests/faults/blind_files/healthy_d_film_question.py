"""Tiny visual question answering: a one-hot question modulates a CNN by FiLM."""
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(18)


def scenes(n, s=12):
    """Two coloured squares; questions: is there a red / green / blue one, is a square on the left / on top?"""
    img = torch.rand(n, 3, s, s) * 0.2
    colour = torch.randint(0, 3, (n, 2))
    place = torch.randint(0, s - 3, (n, 2, 2))
    for i in range(n):
        for k in range(2):
            r, c = place[i, k].tolist()
            img[i, colour[i, k], r:r + 3, c:c + 3] += 0.8
    q = torch.randint(0, 5, (n,))
    facts = torch.stack([(colour == j).any(1) for j in range(3)]
                        + [(place[..., 1] < 3).any(1), (place[..., 0] < 3).any(1)], 1)
    return TensorDataset(img, F.one_hot(q, 5).float(), facts[torch.arange(n), q].float())


class FiLMNet(nn.Module):
    def __init__(self, c=24):
        super().__init__()
        self.stem = nn.Conv2d(5, c, 3, padding=1)
        self.convs = nn.ModuleList([nn.Conv2d(c, c, 3, padding=1) for _ in range(2)])
        self.norms = nn.ModuleList([nn.BatchNorm2d(c, affine=False) for _ in range(2)])
        self.film = nn.ModuleList([nn.Linear(5, 2 * c) for _ in range(2)])
        self.head = nn.Sequential(nn.Linear(c, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, img, q):
        g = torch.linspace(-1, 1, img.shape[-1]).expand(len(img), 1, img.shape[-1], -1)
        h = F.relu(self.stem(torch.cat([img, g, g.transpose(2, 3)], 1)))
        for conv, norm, film in zip(self.convs, self.norms, self.film):
            gamma, beta = film(q)[:, :, None, None].chunk(2, 1)
            h = h + F.relu((1 + gamma) * norm(conv(h)) + beta)
        return self.head(h.amax((2, 3))).squeeze(1)


def training_step(model, batch):
    img, q, answer = batch
    return F.binary_cross_entropy_with_logits(model(img, q), answer)


train_loader = DataLoader(scenes(3000), batch_size=64, shuffle=True)
test_loader = DataLoader(scenes(500), batch_size=250)
model = FiLMNet()
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-3)


if __name__ == "__main__":
    model.train()
    for epoch in range(8):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
