"""Hierarchical (adaptive) softmax language model on a Zipf-like Markov source of 600 words."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(40)
V = 600
zipf = 1 / torch.arange(1, V + 1).float()
successors = torch.multinomial(zipf.expand(V, -1), 3)


def corpus(n, length=16):
    w = torch.multinomial(zipf, n, replacement=True)
    seq = [w]
    for _ in range(length):
        step = successors[w, torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), n, replacement=True)]
        w = torch.where(torch.rand(n) < 0.1, torch.multinomial(zipf, n, replacement=True), step)
        seq.append(w)
    s = torch.stack(seq, 1)
    return TensorDataset(s[:, :-1], s[:, 1:])


class LM(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.emb, self.rnn = nn.Embedding(V, d), nn.GRU(d, d, batch_first=True)
        self.norm = nn.LayerNorm(d)
        self.out = nn.AdaptiveLogSoftmaxWithLoss(d, V, cutoffs=[40, 200], div_value=2.0)

    def forward(self, x):
        return self.norm(self.rnn(self.emb(x))[0])


def training_step(model, batch):
    x, y = batch
    return model.out(model(x).flatten(0, 1), y.flatten()).loss


train_loader = DataLoader(corpus(3000), batch_size=50, shuffle=True)
test_loader = DataLoader(corpus(300), batch_size=150)
model = LM()
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05, initial_accumulator_value=0.01)


if __name__ == "__main__":
    model.train()
    for epoch in range(5):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = training_step(model, batch)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
