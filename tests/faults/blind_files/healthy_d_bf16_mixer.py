"""MLP-mixer kept in bfloat16, with a rate that is large enough for the format."""
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(44)
templates = torch.randn(8, 9, 16)


def make(n):
    y = torch.randint(0, 8, (n,))
    return TensorDataset((templates[y] + 2.0 * torch.randn(n, 9, 16)).bfloat16(), y)


class Mixer(nn.Module):
    def __init__(self, tokens=9, d=16):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(d, elementwise_affine=False), nn.LayerNorm(d, elementwise_affine=False)
        self.tok = nn.Sequential(nn.Linear(tokens, 32), nn.GELU(), nn.Linear(32, tokens))
        self.chan = nn.Sequential(nn.Linear(d, 64), nn.GELU(), nn.Linear(64, d))

    def forward(self, x):
        x = x + self.tok(self.n1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.chan(self.n2(x))


model = nn.Sequential(Mixer(), Mixer(), nn.Flatten(), nn.LayerNorm(144, elementwise_affine=False), nn.Linear(144, 8)).bfloat16()
train_loader = DataLoader(make(3000), batch_size=64, shuffle=True)
test_loader = DataLoader(make(500), batch_size=250)


def loss_fn(logits, y):
    return nn.functional.cross_entropy(logits.float(), y)


optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


if __name__ == "__main__":
    model.train()
    for epoch in range(10):
        for batch in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
