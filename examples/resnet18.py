"""torchvision's ResNet-18 on 32x32 images of handwritten digits, batches of 32.

gradcheck-kit scan examples/resnet18.py
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18

from gradcheck_kit import load_digits

torch.manual_seed(0)


class Large(Dataset):
    """The digits as 3x32x32 images."""

    def __init__(self, digits):
        self.digits = digits

    def __len__(self):
        return len(self.digits)

    def __getitem__(self, index):
        image, label = self.digits[index]
        return F.interpolate(image[None], size=32, mode="bilinear")[0].expand(3, -1, -1), label


train_set, test_set = load_digits()
train_loader = DataLoader(Large(train_set), batch_size=32, shuffle=True)
test_loader = DataLoader(Large(test_set), batch_size=120)

model = resnet18(num_classes=10)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
