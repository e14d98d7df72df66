import random
import torch
from torch import nn
from torch.utils.data import Dataset, DataLoader

random.seed(0)
torch.manual_seed(0)

GOOD = "great lovely superb fine happy bright tasty fresh".split()
BAD = "awful dull bland broken sad dirty rude cold".split()
FILL = "the food was and room we it very place here with staff a".split()
VOCAB = {w: i for i, w in enumerate(["<pad>"] + GOOD + BAD + FILL)}


def make_review():
    label = random.randint(0, 1)
    words = random.choices(FILL, k=9) + random.choices(GOOD if label else BAD, k=3)
    random.shuffle(words)
    return [VOCAB[w] for w in words], label


class Reviews(Dataset):
    def __init__(self, n):
        self.rows = [make_review() for _ in range(n)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        ids, label = self.rows[i]
        return torch.tensor(ids), torch.tensor(label)


class Sentiment(nn.Module):
    def __init__(self, vocab, dim=24, hidden=32, layers=1):
        super().__init__()
        self.layers, self.hidden = layers, hidden
        self.emb = nn.Embedding(vocab, dim, padding_idx=0)
        self.lstm = nn.LSTM(dim, hidden, layers, batch_first=True)
        self.fc = nn.Linear(hidden, 2)

    def init_hidden(self, n):
        h = torch.zeros(self.layers, n, self.hidden)
        c = torch.zeros(self.layers, n, self.hidden)
        return h, c

    def forward(self, ids):
        e = self.emb(ids)
        h, c = self.init_hidden(ids.size(0))
        out, (h_n, c_n) = self.lstm(e, (h, c))
        last = h[-1]
        return self.fc(last)


train_loader = DataLoader(Reviews(1200), batch_size=32, shuffle=True)
test_loader = DataLoader(Reviews(300), batch_size=100)
model = Sentiment(len(VOCAB))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)

if __name__ == "__main__":
    for epoch in range(8):
        total = 0.0
        for ids, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(ids), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}: {total / len(train_loader):.3f}")
