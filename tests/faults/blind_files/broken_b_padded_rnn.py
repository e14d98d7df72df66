import random
import torch
from torch import nn
from torch.utils.data import DataLoader
from torch.nn.utils.rnn import pad_sequence

random.seed(4)
torch.manual_seed(4)
MAXLEN = 150
TOPICS = [list(range(1, 9)), list(range(9, 17)), list(range(17, 25))]
COMMON = list(range(25, 40))


def sample():
    topic = random.randrange(3)
    n = random.randint(6, 14)
    words = [random.choice(TOPICS[topic]) if random.random() < 0.5 else random.choice(COMMON) for _ in range(n)]
    return torch.tensor(words), topic


def collate(batch):
    seqs, topics = zip(*batch)
    seqs = list(seqs) + [torch.zeros(MAXLEN, dtype=torch.long)]
    padded = pad_sequence(seqs, batch_first=True, padding_value=0)[:-1]
    return padded, torch.tensor(topics)


class HeadlineRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(40, 32, padding_idx=0)
        self.rnn = nn.RNN(32, 48, batch_first=True)
        self.fc = nn.Linear(48, 3)

    def forward(self, ids):
        out, _ = self.rnn(self.emb(ids))
        return self.fc(out[:, -1])


train_loader = DataLoader([sample() for _ in range(1500)], batch_size=32, shuffle=True, collate_fn=collate)
test_loader = DataLoader([sample() for _ in range(300)], batch_size=100, collate_fn=collate)
model = HeadlineRNN()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

if __name__ == "__main__":
    for epoch in range(10):
        hits = 0
        for ids, y in train_loader:
            optimizer.zero_grad()
            logits = model(ids)
            loss = criterion(logits, y)
            loss.backward()
            optimizer.step()
            hits += (logits.argmax(1) == y).sum().item()
        print(epoch, hits / 1500)
