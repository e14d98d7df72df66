"""Which customers churn: short event sequences, vanilla RNN."""
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(17)
N_EVENTS, MAXLEN = 12, 120


class Events(Dataset):
    """Churners open more tickets (event 3) and fewer orders (event 5)."""

    def __init__(self, n, seed):
        g = torch.Generator().manual_seed(seed)
        self.rows = []
        for k in range(n):
            churn = k % 2
            probs = torch.ones(N_EVENTS)
            probs[0] = 0
            probs[3 if churn else 5] = 7
            length = int(torch.randint(6, 15, (1,), generator=g))
            self.rows.append((torch.multinomial(probs, length, True, generator=g), churn))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        ids, churn = self.rows[i]
        x = torch.zeros(MAXLEN, dtype=torch.long)
        x[:len(ids)] = ids
        return x, churn


class ChurnRNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(N_EVENTS, 16, padding_idx=0)
        self.rnn = nn.RNN(16, 32, batch_first=True)
        self.head = nn.Sequential(nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, x):
        h, _ = self.rnn(self.emb(x))
        return self.head(h[:, -1])


train_loader = DataLoader(Events(1500, 0), batch_size=50, shuffle=True)
test_loader = DataLoader(Events(300, 1), batch_size=100)
model = ChurnRNN()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
