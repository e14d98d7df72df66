import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(105)


def picture(kind):
    img = torch.zeros(12, 12)
    r = int(torch.randint(1, 6, (1,)))
    c = int(torch.randint(1, 6, (1,)))
    if kind == 0:
        img[r:r + 5, c] = 1
    elif kind == 1:
        img[r, c:c + 5] = 1
    elif kind == 2:
        for k in range(5):
            img[r + k, c + k] = 1
    else:
        img[r:r + 4, c:c + 4] = 1
    return img


def make(n):
    kinds = [i % 4 for i in range(n)]
    imgs = torch.stack([picture(k) for k in kinds]).unsqueeze(1)
    imgs = imgs + 0.15 * torch.randn_like(imgs)
    return TensorDataset((imgs - 0.15) / 0.35, torch.tensor(kinds))


class OldNet(nn.Module):
    def __init__(self):
        super(OldNet, self).__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5, padding=2)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=3, padding=1)
        self.conv2_drop = nn.Dropout2d(0.2)
        self.fc1 = nn.Linear(180, 50)
        self.fc2 = nn.Linear(50, 4)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2_drop(self.conv2(x)), 2))
        x = x.view(-1, 180)
        x = F.relu(self.fc1(x))
        x = F.dropout(x, training=self.training)
        x = self.fc2(x)
        return F.log_softmax(x, dim=1)


train_loader = DataLoader(make(1280), batch_size=64, shuffle=True)
test_loader = DataLoader(make(256), batch_size=64)
model = OldNet()
loss_fn = nn.NLLLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.03, momentum=0.9, nesterov=True)

if __name__ == "__main__":
    for epoch in range(8):
        model.train()
        for x, y in train_loader:
            optimizer.zero_grad()
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())
