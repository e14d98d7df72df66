import random
import torch
import torch.nn as nn
from torch.utils.data import DataLoader

random.seed(101)
torch.manual_seed(101)
SPAM = "win prize free click money offer cash now".split()
HAM = "meeting lunch report monday thanks project call mother".split()
BOTH = "you the a to we can please today and for i is".split()
ALL = SPAM + HAM + BOTH


def mail():
    is_spam = random.random() < 0.45
    words = random.choices(BOTH, k=random.randint(5, 12))
    words += random.choices(SPAM if is_spam else HAM, k=random.randint(2, 4))
    words += random.choices(ALL, k=2)
    return words, float(is_spam)


def count_vector(words):
    v = [0.0] * len(ALL)
    for w in words:
        v[ALL.index(w)] += 1.0
    return v


def collate(mails):
    xs = []
    ys = []
    for words, label in mails:
        xs.append(count_vector(words))
        ys.append([label])
    return torch.tensor(xs), torch.tensor(ys)


train_loader = DataLoader([mail() for _ in range(1200)], batch_size=40, shuffle=True, collate_fn=collate)
test_loader = DataLoader([mail() for _ in range(300)], batch_size=100, collate_fn=collate)

model = nn.Sequential(nn.Linear(len(ALL), 32), nn.LeakyReLU(), nn.Linear(32, 1))
loss_fn = nn.BCEWithLogitsLoss()
optimizer = torch.optim.Adagrad(model.parameters(), lr=0.05)

if __name__ == "__main__":
    for e in range(10):
        for x, y in train_loader:
            optimizer.zero_grad()
            l = loss_fn(model(x), y)
            l.backward()
            optimizer.step()
        print(e, l.item())
