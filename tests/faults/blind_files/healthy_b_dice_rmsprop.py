import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(115)


class Roads(Dataset):
    def __init__(self, n, s=20):
        g = torch.arange(s).float()
        self.img, self.mask = [], []
        for _ in range(n):
            slope, at = torch.rand(2).tolist()
            line = at * 10 + 5 + (slope - 0.5) * (g - s / 2)
            m = ((g[:, None] - line[None]).abs() < 1.8).float()
            if torch.rand(1) < 0.5:
                m = m.t()
            light = 0.8 + 0.4 * torch.rand(1)
            self.img.append((light * m + 0.35 * torch.randn(s, s) - 0.2)[None])
            self.mask.append(m[None])

    def __len__(self):
        return len(self.img)

    def __getitem__(self, i):
        x, m = self.img[i], self.mask[i]
        k = int(torch.randint(0, 4, (1,)))
        x = torch.rot90(x, k, dims=(1, 2))
        m = torch.rot90(m, k, dims=(1, 2))
        return x, m


class DiceBCE(nn.Module):
    def forward(self, logits, mask):
        p = torch.sigmoid(logits)
        inter = (p * mask).sum(dim=(1, 2, 3))
        total = p.sum(dim=(1, 2, 3)) + mask.sum(dim=(1, 2, 3))
        dice = (2 * inter + 1) / (total + 1)
        return 1 - dice.mean() + nn.functional.binary_cross_entropy_with_logits(logits, mask)


class Net(nn.Module):
    def __init__(self, c=12):
        super().__init__()
        self.c1 = nn.Conv2d(1, c, 3, padding=1)
        self.c2 = nn.Conv2d(c, c, 3, padding=2, dilation=2)
        self.c3 = nn.Conv2d(c, c, 3, padding=4, dilation=4)
        self.n = nn.GroupNorm(3, c)
        self.o = nn.Conv2d(2 * c, 1, 1)

    def forward(self, x):
        a = nn.functional.relu(self.c1(x))
        b = nn.functional.relu(self.n(self.c2(a)))
        b = nn.functional.relu(self.c3(b))
        return self.o(torch.cat([a, b], dim=1))


train_loader = DataLoader(Roads(480), batch_size=16, shuffle=True)
test_loader = DataLoader(Roads(64), batch_size=16)
model = Net()
criterion = DiceBCE()
optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, momentum=0.5)

if __name__ == "__main__":
    for epoch in range(6):
        for x, m in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), m)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
