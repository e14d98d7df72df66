import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(25)
CFG = dict(classes=4, width=32, heads=4, layers=2, batch=64, lr_per_sample=2e-3, seq=16)


class Classifier(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.emb = nn.Embedding(30, c["width"])
        self.pos = nn.Parameter(torch.randn(1, c["seq"], c["width"]) * 0.02)
        layer = nn.TransformerEncoderLayer(c["width"], c["heads"], 64, dropout=0.0, batch_first=True)
        self.enc = nn.TransformerEncoder(layer, c["layers"])
        self.out = nn.Linear(c["width"], c["classes"])

    def forward(self, ids):
        h = self.enc(self.emb(ids) + self.pos)
        return self.out(h.mean(1))


def make(n):
    y = torch.randint(0, CFG["classes"], (n,))
    ids = torch.randint(0, 30, (n, CFG["seq"]))
    marked = torch.rand(n, CFG["seq"]) < 0.35
    return torch.where(marked, y[:, None] * 3 + torch.randint(0, 3, ids.shape), ids), y


def scaled_lr(cfg):
    # linear scaling rule
    return cfg["lr_per_sample"] * cfg["batch"]


train_loader = DataLoader(TensorDataset(*make(1600)), batch_size=CFG["batch"], shuffle=True)
test_loader = DataLoader(TensorDataset(*make(400)), batch_size=100)
model = Classifier(CFG)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=scaled_lr(CFG))

if __name__ == "__main__":
    for epoch in range(10):
        for ids, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(ids), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
