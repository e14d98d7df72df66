import random
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

random.seed(112)
torch.manual_seed(112)
W = ["<s>", "the", "a", "cat", "dog", "bird", "old", "small", "sees", "hears", "and", "runs", "sleeps", "."]


def sentence():
    def np_():
        return [random.choice(["the", "a"])] + random.sample(["old", "small"], random.randint(0, 1)) + \
            [random.choice(["cat", "dog", "bird"])]
    verb = random.choice(["sees", "hears"])
    return np_() + ([verb] + np_() if random.random() < 0.5 else [random.choice(["runs", "sleeps"])]) + ["."]


class Stories(Dataset):
    def __init__(self, n, length=21):
        self.rows = []
        while len(self.rows) < n:
            words = ["<s>"]
            while len(words) < length:
                words += sentence()
            self.rows.append(torch.tensor([W.index(w) for w in words[:length]]))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i], self.rows[i].clone()


class TiedLM(nn.Module):
    def __init__(self, vocab, d=32, t=21):
        super().__init__()
        self.tok = nn.Embedding(vocab, d)
        nn.init.normal_(self.tok.weight, std=0.1)
        self.pos = nn.Parameter(0.1 * torch.randn(t, d))
        layer = nn.TransformerEncoderLayer(d, 4, 96, dropout=0.1, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(d), enable_nested_tensor=False)
        self.unembed = nn.Linear(d, vocab, bias=False)
        self.unembed.weight = self.tok.weight

    def forward(self, ids):
        t = ids.shape[1]
        mask = torch.full((t, t), float("-inf")).triu(1)
        return self.unembed(self.body(self.tok(ids) + self.pos[:t], mask=mask))


def loss_fn(logits, ids):
    # the shift is done here
    guess = logits[:, :-1].reshape(-1, logits.size(-1))
    return nn.functional.cross_entropy(guess, ids[:, 1:].reshape(-1))


train_loader = DataLoader(Stories(1000), batch_size=32, shuffle=True)
test_loader = DataLoader(Stories(128), batch_size=32)
model = TiedLM(len(W))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95))

if __name__ == "__main__":
    for epoch in range(6):
        for a, b in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(a), b)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
