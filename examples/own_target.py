"""A target that says itself what it is: `gradcheck_target()` settles model, data, loss and optimizer.

Here a training step of its own: an autoencoder with noise on its inputs, which no loss_fn(output, target) describes.

gradcheck-kit scan examples/own_target.py
"""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from gradcheck_kit import Target, load_digits


class Autoencoder(nn.Module):
    def __init__(self, width=128, code=16):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, code))
        self.decoder = nn.Sequential(nn.Linear(code, width), nn.ReLU(), nn.Linear(width, 64))

    def forward(self, x):
        return self.decoder(self.encoder(x)).view_as(x)


def denoise(model, batch):
    images, _ = batch
    noisy = images + 0.3 * torch.randn_like(images)
    return F.mse_loss(model(noisy), images)


def gradcheck_target():
    torch.manual_seed(0)
    train_set, _ = load_digits()
    model = Autoencoder()
    return Target(
        model,
        DataLoader(train_set, batch_size=64, shuffle=True),
        training_step=denoise,
        optimizer=torch.optim.Adam(model.parameters(), lr=2e-3),
    )
