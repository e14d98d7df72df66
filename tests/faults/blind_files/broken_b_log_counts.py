import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

rng = np.random.default_rng(8)


class WordCounts(Dataset):
    """bag-of-words counts of short made documents, 3 topics"""

    def __init__(self, n_docs, n_words=40):
        self.y = rng.integers(0, 3, n_docs)
        rates = np.full((3, n_words), 1.2)
        rates[0, :8] = rates[1, 8:16] = rates[2, 16:24] = 4.0
        self.counts = rng.poisson(rates[self.y])

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        c = torch.tensor(self.counts[i], dtype=torch.float32)
        tf = c / c.sum()
        x = torch.log(tf * 40)
        return x, int(self.y[i])


class TopicNet(nn.Module):
    def __init__(self, n_in, n_hidden, n_out):
        super().__init__()
        self.fc1 = nn.Linear(n_in, n_hidden)
        self.bn1 = nn.BatchNorm1d(n_hidden)
        self.fc2 = nn.Linear(n_hidden, n_out)

    def forward(self, x):
        return self.fc2(torch.relu(self.bn1(self.fc1(x))))


torch.manual_seed(8)
train_loader = DataLoader(WordCounts(900), batch_size=30, shuffle=True)
test_loader = DataLoader(WordCounts(200), batch_size=50)
model = TopicNet(40, 32, 3)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

if __name__ == "__main__":
    for epoch in range(10):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
