import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

torch.manual_seed(0)


class Leaves(Dataset):
    """tiny 'leaf' pictures, read class folder by class folder"""

    def __init__(self, per_class, seed):
        g = torch.Generator().manual_seed(seed)
        yy, xx = torch.meshgrid(torch.linspace(-1, 1, 12), torch.linspace(-1, 1, 12), indexing="ij")
        self.items = []
        for cls in range(6):
            ang = cls * 3.14159 / 6
            for _ in range(per_class):
                a = torch.tensor(ang) + 0.12 * torch.randn(1, generator=g)
                u = xx * a.cos() + yy * a.sin()
                v = -xx * a.sin() + yy * a.cos()
                img = torch.exp(-(u / 0.9) ** 2 - (v / 0.3) ** 2)
                img = (img - 0.3) * 2 + 0.3 * torch.randn(12, 12, generator=g)
                self.items.append((img.unsqueeze(0), cls))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


class ChunkSampler(Sampler):
    def __init__(self, dataset, size):
        self.n, self.size = len(dataset), size

    def __iter__(self):
        for start in range(0, self.n, self.size):
            chunk = torch.arange(start, min(start + self.size, self.n))
            yield chunk[torch.randperm(len(chunk))].tolist()

    def __len__(self):
        return (self.n + self.size - 1) // self.size


train_set, test_set = Leaves(128, 1), Leaves(30, 2)
train_loader = DataLoader(train_set, batch_sampler=ChunkSampler(train_set, 32))
test_loader = DataLoader(test_set, batch_size=60)

model = nn.Sequential(
    nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(24 * 9, 48), nn.ReLU(), nn.Linear(48, 6))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

if __name__ == "__main__":
    for epoch in range(10):
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
