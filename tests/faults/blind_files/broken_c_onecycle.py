import torch
from torch import nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
EPOCHS = 12


def digits(n, size=16):
    g = torch.Generator().manual_seed(21)
    proto = (torch.rand(10, 1, 5, 5, generator=g) > 0.5).float()
    y = torch.randint(0, 10, (n,))
    img = F.interpolate(proto[y], scale_factor=3, mode="nearest")
    img = F.pad(img, (0, 1, 0, 1))
    shift = torch.randint(0, 2, (n,))
    img = torch.where(shift[:, None, None, None] == 1, img.roll(1, 3), img)
    return TensorDataset(img - 0.5 + 0.5 * torch.randn(n, 1, size, size), y)


class PreAct(nn.Module):
    def __init__(self, i, o, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, stride, 1)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1)
        self.skip = nn.Conv2d(i, o, 1, stride)

    def forward(self, x):
        x = F.relu(x)
        return self.skip(x) + self.conv2(F.relu(self.conv1(x)))


class ResNetSmall(nn.Module):
    def __init__(self, w=8):
        super().__init__()
        self.conv = nn.Conv2d(1, w, 3, 1, 1)
        self.stages = nn.Sequential(PreAct(w, w, 1), PreAct(w, 2 * w, 2), PreAct(2 * w, 4 * w, 2))
        self.fc = nn.Linear(4 * w, 10)

    def forward(self, x):
        return self.fc(F.relu(self.stages(self.conv(x))).mean((2, 3)))


train_loader = DataLoader(digits(2000), batch_size=40, shuffle=True)
test_loader = DataLoader(digits(400), batch_size=100)
model = ResNetSmall()
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
scheduler = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, max_lr=0.8, epochs=EPOCHS, steps_per_epoch=len(train_loader), pct_start=0.1)
