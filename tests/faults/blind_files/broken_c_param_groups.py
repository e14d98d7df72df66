import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Reviews(Dataset):
    """Bag of token ids, label = which of 4 topics dominates."""

    def __init__(self, n, seed, vocab=200, length=24):
        g = torch.Generator().manual_seed(seed)
        self.y = torch.randint(0, 4, (n,), generator=g)
        topic = torch.randint(0, vocab // 4, (n, length), generator=g) * 4 + self.y[:, None]
        noise = torch.randint(0, vocab, (n, length), generator=g)
        self.x = torch.where(torch.rand(n, length, generator=g) < 0.3, topic, noise)

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


class TextClassifier(nn.Module):
    def __init__(self, vocab=200, dim=48, n_classes=4):
        super().__init__()
        self.token_emb = nn.Embedding(vocab, dim)
        layer = nn.TransformerEncoderLayer(dim, 4, 96, dropout=0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.classifier = nn.Linear(dim, n_classes)

    def forward(self, ids):
        return self.classifier(self.encoder(self.token_emb(ids)).mean(1))


def build_optimizer(model, lr, head_lr, wd):
    no_decay = ("bias", "norm")
    named = list(model.named_parameters())
    body = [(n, p) for n, p in named if n.startswith("encoder.")]
    head = [p for n, p in named if n.startswith("head.")]
    groups = [
        {"params": [p for n, p in body if not any(k in n for k in no_decay)], "lr": lr, "weight_decay": wd},
        {"params": [p for n, p in body if any(k in n for k in no_decay)], "lr": lr, "weight_decay": 0.0},
        {"params": [p for n, p in named if n.startswith("token_emb.")], "lr": lr, "weight_decay": 0.0},
        {"params": head, "lr": head_lr, "weight_decay": wd},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]])


torch.manual_seed(7)
train_loader = DataLoader(Reviews(2000, 0), batch_size=50, shuffle=True)
test_loader = DataLoader(Reviews(500, 1), batch_size=100)
model = TextClassifier()
optimizer = build_optimizer(model, lr=3e-4, head_lr=3e-3, wd=0.01)
loss_fn = nn.CrossEntropyLoss()
