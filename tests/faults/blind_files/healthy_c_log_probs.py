import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)


def phonemes(n, t=20, f=12):
    proto = torch.randn(5, t, f, generator=torch.Generator().manual_seed(1))
    y = torch.randint(0, 5, (n,))
    return TensorDataset(0.5 * proto[y] + torch.randn(n, t, f), y)


class PhonemeGRU(nn.Module):
    """Returns log-probabilities, which the decoder of the service expects."""

    def __init__(self, f=12, hidden=48, n_classes=5):
        super().__init__()
        self.gru = nn.GRU(f, hidden, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, n_classes)

    def forward(self, x):
        out, _ = self.gru(x)
        return torch.log_softmax(self.fc(out.mean(1)), dim=-1)


train_loader = DataLoader(phonemes(1500), batch_size=50, shuffle=True)
test_loader = DataLoader(phonemes(300), batch_size=100)
model = PhonemeGRU()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
