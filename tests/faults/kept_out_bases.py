"""Healthy training programs that no threshold was set on, from many fields, as their users write them.

Their parameters are the places where kept_out_broken.py puts a fault; the defaults are healthy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from gradcheck_kit.target import Target

Base = Callable[..., Target]
KEPT_OUT_BASES: dict[str, Base] = {}


def base(make: Base) -> Base:
    KEPT_OUT_BASES[make.__name__] = make
    return make


def batches(make, *, train=1536, test=512, batch=64, change=None, change_test=None, **options):
    """Loaders of training and test data. `change` alters both, `change_test` what comes of it for the test alone."""
    change = change or (lambda *columns: columns)
    change_test = change_test or (lambda *columns: columns)
    options = {"shuffle": True, **options}
    return (
        DataLoader(TensorDataset(*change(*make(train))), batch, **options),
        DataLoader(TensorDataset(*change_test(*change(*make(test)))), 128),
    )


def adam(model, lr=1e-3):
    return torch.optim.Adam(model.parameters(), lr=lr)


# ---- tables ----


class ChurnNet(nn.Module):
    def __init__(self, last=None):
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(size, 4) for size in (12, 7, 5))
        self.net = nn.Sequential(nn.Linear(18, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 32), nn.ReLU())
        self.out, self.last = nn.Linear(32, 1), last or nn.Identity()

    def forward(self, codes, numbers):
        h = [embedding(codes[:, i]) for i, embedding in enumerate(self.embeddings)]
        return self.last(self.out(self.net(torch.cat([*h, numbers], 1)))).squeeze(1)


def customers(cut=0.0, noise=0.3):
    effects = torch.randn(3, 12)
    weights = torch.randn(6)

    def make(n):
        codes = torch.stack([torch.randint(0, size, (n,)) for size in (12, 7, 5)], 1)
        numbers = torch.randn(n, 6)
        score = sum(effects[i, codes[:, i]] for i in range(3)) + numbers @ weights + numbers[:, 0] * numbers[:, 1]
        return codes, numbers, (score / 3 + noise * torch.randn(n) > cut).float()

    return make


@base
def churn_with_embedded_categories(last=None, cut=0.0, noise=0.3, **data):
    model = ChurnNet(last)
    train, test = batches(customers(cut, noise), **{"batch": 128, **data})
    return Target(model, train, test, nn.BCEWithLogitsLoss(), torch.optim.AdamW(model.parameters(), lr=3e-3))


def spirals(classes=3, features=12):
    """Arms that wind around each other, turned into a space of more dimensions."""
    turn = torch.linalg.qr(torch.randn(features, features))[0][:2] * 1.5

    def make(n):
        y, r = torch.randint(0, classes, (n,)), torch.rand(n)
        angle = 2 * math.pi * y / classes + 2.5 * r
        plane = torch.stack([r * angle.cos(), r * angle.sin()], 1) * 2
        return plane @ turn + 0.1 * torch.randn(n, features), y

    return make


class SeluNet(nn.Module):
    def __init__(self, depth=7, activation=None, std=None, always_drop=False):
        super().__init__()
        widths = [12, *[64] * depth]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.head, self.activation, self.always_drop = nn.Linear(64, 3), activation or nn.SELU(), always_drop
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=std or layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        for layer in self.layers:
            x = self.activation(layer(x))
        return self.head(F.alpha_dropout(x, 0.05, self.training or self.always_drop))


@base
def selu_network_with_alpha_dropout(lr=0.02, **how):
    model = SeluNet(**how)
    train, test = batches(spirals(), batch=64)
    return Target(
        model, train, test, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    )  # fmt: skip


def patients(rate=0.08, apart=1.6):
    direction = F.normalize(torch.randn(16), dim=0)

    def make(n):
        y = (torch.rand(n) < rate).float()
        x = torch.randn(n, 16) + apart * y[:, None] * direction
        return x, y[:, None]

    return make


@base
def rare_disease_with_a_positive_weight(rate=0.08, apart=3.0, weight=11.5, loss_fn=None, layers=None, **data):
    model = layers or nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 1))
    train, test = batches(patients(rate, apart), **{"train": 2000, "test": 1000, "batch": 100, **data})
    return Target(
        model, train, test, loss_fn or nn.BCEWithLogitsLoss(pos_weight=torch.tensor([weight])), adam(model, 3e-3)
    )  # fmt: skip


def houses(features=8):
    """Prices that are skewed and less certain where they are high."""
    weights, bends = torch.randn(features), torch.randn(features)

    def make(n):
        x = torch.randn(n, features)
        middle = x @ weights / 2 + torch.tanh(x @ bends)
        return x, middle + F.softplus(x[:, 0]) * 0.5 * torch.randn(n)

    return make


def pinball(out, y):
    loss = 0.0
    for i, q in enumerate((0.1, 0.5, 0.9)):
        error = y - out[:, i]
        loss = loss + torch.maximum(q * error, (q - 1) * error).mean()
    return loss


@base
def quantiles_of_house_prices(loss_fn=pinball, optimizer=adam, lr=3e-3, **data):
    model = nn.Sequential(nn.Linear(8, 64), nn.LeakyReLU(), nn.Linear(64, 64), nn.LeakyReLU(), nn.Linear(64, 3))
    train, test = batches(houses(), **{"batch": 50, **data})
    return Target(model, train, test, loss_fn, optimizer(model, lr))


class HeteroscedasticNet(nn.Module):
    def __init__(self, positive=F.softplus):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 50), nn.Tanh(), nn.Linear(50, 50), nn.Tanh())
        self.mean, self.variance, self.positive = nn.Linear(50, 1), nn.Linear(50, 1), positive

    def forward(self, x):
        h = self.body(x)
        return self.mean(h), self.positive(self.variance(h)) + 1e-6


def as_column(x, y):
    return x, y[:, None]


def gaussian_loss(out, y):
    return F.gaussian_nll_loss(out[0], y, out[1])


@base
def mean_and_variance_regression(loss_fn=gaussian_loss, positive=F.softplus, column=True, **data):
    make = houses()
    model = HeteroscedasticNet(positive)
    one = make if not column else (lambda n: as_column(*make(n)))
    train, test = batches(one, **{"batch": 32, **data})
    return Target(model, train, test, loss_fn, adam(model, 3e-3))


@base
def poisson_counts(last=None, log_input=True, lr=3e-3, bias=None, **data):
    weights = torch.randn(10) / 3

    def make(n):
        x = torch.randn(n, 10)
        return x, torch.poisson((x @ weights + 0.5 * torch.sin(2 * x[:, 0]) + 0.7).exp())[:, None]

    layers = [nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1)]
    if bias is not None:
        nn.init.constant_(layers[2].bias, bias)
    model = nn.Sequential(*layers, *([last] if last else []))
    train, test = batches(make, **{"batch": 64, **data})
    return Target(model, train, test, nn.PoissonNLLLoss(log_input=log_input), adam(model, lr))


class OrdinalNet(nn.Module):
    """One score and four thresholds: the logits of being above each grade."""

    def __init__(self, depth=2, activation=nn.ELU):
        super().__init__()
        layers = [nn.Linear(10, 40), activation()]
        for _ in range(depth - 1):
            layers += [nn.Linear(40, 40), activation()]
        self.net = nn.Sequential(*layers, nn.Linear(40, 1, bias=False))
        self.thresholds = nn.Parameter(torch.linspace(1.5, -1.5, 4))

    def forward(self, x):
        return self.net(x) + self.thresholds


def cumulative(out, y):
    above = (y[:, None] > torch.arange(4)).float()
    return F.binary_cross_entropy_with_logits(out, above)


@base
def ordinal_grades(depth=2, activation=nn.ELU, optimizer=None, **data):
    weights = torch.randn(10)

    def make(n):
        x = torch.randn(n, 10)
        score = x @ weights / 2 + 0.3 * torch.randn(n)
        return x, (score[:, None] > torch.tensor([-1.2, -0.4, 0.4, 1.2])).sum(1)

    model = OrdinalNet(depth, activation)
    train, test = batches(make, **data)
    return Target(model, train, test, cumulative, (optimizer or adam)(model, 5e-3))


def cox(log_risk, time, event):
    """The negative log partial likelihood: everybody still at risk is in the denominator."""
    order = time.argsort(descending=True)
    log_risk, event = log_risk[order, 0], event[order]
    return -((log_risk - log_risk.logcumsumexp(0)) * event).sum() / event.sum().clamp_min(1)


@base
def survival_with_a_cox_loss(loss_fn=cox, optimizer=None, **data):
    weights = torch.randn(9)

    def make(n):
        x = torch.randn(n, 9)
        time = -torch.rand(n).log() * torch.exp(-(x @ weights) / 1.5)
        censored = -torch.rand(n).log() * 2
        return x, torch.minimum(time, censored), (time <= censored).float()

    model = nn.Sequential(nn.Linear(9, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 1, bias=False))
    train, test = batches(make, **{"batch": 128, **data})
    return Target(model, train, test, loss_fn, (optimizer or adam)(model, 5e-3))


class MixtureDensityNet(nn.Module):
    def __init__(self, scale=torch.exp):
        super().__init__()
        self.body, self.scale = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh()), scale
        self.weights, self.means, self.scales = nn.Linear(32, 5), nn.Linear(32, 5), nn.Linear(32, 5)

    def forward(self, x):
        h = self.body(x)
        return self.weights(h).log_softmax(1), self.means(h), self.scale(self.scales(h))


def mixture_loss(out, y):
    log_weights, means, scales = out
    log_density = -0.5 * ((y - means) / scales) ** 2 - scales.log() - 0.5 * math.log(2 * math.pi)
    return -torch.logsumexp(log_weights + log_density, 1).mean()


@base
def mixture_density_of_an_inverse_problem(scale=torch.exp, loss_fn=mixture_loss, optimizer=None, lr=5e-3, **data):
    def make(n):
        y = torch.rand(n, 1) * 2 - 1
        return 2 * (y + 0.3 * torch.sin(2 * math.pi * y) + 0.05 * torch.randn(n, 1)), y

    model = MixtureDensityNet(scale)
    train, test = batches(make, **data)
    return Target(model, train, test, loss_fn, (optimizer or adam)(model, lr))


# ---- images ----


def shapes(size=14, channels=3, classes=4):
    """Crosses, frames, bars and blobs at random places, in random colours."""
    stamps = torch.zeros(4, 5, 5)
    stamps[0, 2], stamps[0, :, 2] = 1, 1
    stamps[1, (0, 4)], stamps[1, :, (0, 4)] = 1, 1
    stamps[2, 1:3] = 1
    stamps[3, 1:4, 1:4] = 1

    def make(n):
        y = torch.randint(0, classes, (n,))
        x = 0.15 * torch.randn(n, channels, size, size)
        colours = 0.6 + torch.rand(n, channels)
        places = torch.randint(0, size - 4, (n, 2)).tolist()
        for image, label, colour, (row, column) in zip(x, y.tolist(), colours, places, strict=True):
            image[:, row : row + 5, column : column + 5] += stamps[label] * colour[:, None, None]
        return (x - 0.16) / 0.4, y

    return make


class Augmented(Dataset):
    """Mirrored at random and shifted by a pixel."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        x = self.x[index]
        if torch.rand(()) < 0.5:
            x = x.flip(-1)
        return x.roll(int(torch.randint(-1, 2, ())), -2), self.y[index]


def conv_bn(a, b, momentum=0.1):
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b, momentum=momentum), nn.ReLU())


class ShapesCnn(nn.Module):
    def __init__(self, momentum=0.1, last=None, dropout=0.2):
        super().__init__()
        self.stem, self.pool = conv_bn(3, 16, momentum), nn.MaxPool2d(2)
        self.body, self.dropout = conv_bn(16, 32, momentum), nn.Dropout(dropout)
        self.classifier, self.last = nn.Linear(32 * 9, 4), last or nn.Identity()

    def forward(self, x):
        x = self.pool(self.body(self.pool(self.stem(x))))
        return self.last(self.classifier(self.dropout(x.flatten(1))))


@base
def batchnorm_cnn_with_augmentation(
    *, model=None, momentum=0.1, last=None, dropout=0.2, decay=5e-4, batch=32, lr=0.05, train=1280, test=512,
    change=None, change_test=None,
):  # fmt: skip
    make = shapes()
    change, change_test = change or (lambda x, y: (x, y)), change_test or (lambda x, y: (x, y))
    model = model or ShapesCnn(momentum, last, dropout)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=decay, nesterov=True)
    return Target(
        model, DataLoader(Augmented(*change(*make(train))), batch, shuffle=True, drop_last=True),
        DataLoader(TensorDataset(*change_test(*change(*make(test)))), 128), nn.CrossEntropyLoss(), optimizer,
    )  # fmt: skip


class GroupNormBlock(nn.Module):
    def __init__(self, a, b, stride=1, forgets_shortcut=False):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(a, b, 3, stride, 1, bias=False), nn.GroupNorm(4, b)
        self.conv2, self.norm2 = nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.GroupNorm(4, b)
        self.shortcut = nn.Conv2d(a, b, 1, stride, bias=False) if a != b else nn.Identity()
        self.forgets_shortcut = forgets_shortcut

    def forward(self, x):
        h = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(h) if self.forgets_shortcut else F.relu(h + self.shortcut(x))


class GroupNormResNet(nn.Module):
    def __init__(self, normalized=None, forgets_shortcut=False):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.Sequential(
            GroupNormBlock(16, 16), GroupNormBlock(16, 32, 2, forgets_shortcut), GroupNormBlock(32, 32)
        )
        self.head, self.normalized = nn.Linear(32, 4), normalized

    def forward(self, x):
        h = self.blocks(F.relu(self.stem(x))).amax((2, 3))
        if self.normalized is not None:
            h = 4 * F.normalize(h, dim=self.normalized)
        return self.head(h)


@base
def groupnorm_resnet(normalized=None, forgets_shortcut=False, **data):
    model = GroupNormResNet(normalized, forgets_shortcut)
    train, test = batches(shapes(), **{"train": 1024, "batch": 32, **data})
    return Target(model, train, test, nn.CrossEntropyLoss(), torch.optim.NAdam(model.parameters(), lr=2e-3))


class ConvNextBlock(nn.Module):
    def __init__(self, width, activation):
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(width, width, 5, padding=2, groups=width), nn.LayerNorm(width)
        self.up, self.activation, self.down = nn.Linear(width, 3 * width), activation, nn.Linear(3 * width, width)
        self.gamma = nn.Parameter(1e-2 * torch.ones(width))

    def forward(self, x):
        h = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.down(self.activation(self.up(h)))).permute(0, 3, 1, 2)


class ConvNext(nn.Module):
    def __init__(self, activation=None, softmax=False):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 2, 2)
        self.blocks = nn.Sequential(*[ConvNextBlock(16, activation or nn.GELU()) for _ in range(3)])
        self.norm, self.head, self.softmax = nn.LayerNorm(16), nn.Linear(16, 4), softmax

    def forward(self, x):
        scores = self.head(self.norm(self.blocks(self.stem(x)).mean((2, 3))))
        return F.softmax(scores, dim=1) if self.softmax else scores


@base
def convnext_with_layer_scale(activation=None, softmax=False, lr=4e-3, decay=0.05):
    model = ConvNext(activation, softmax)
    train, test = batches(shapes(), batch=64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay)
    return Target(model, train, test, nn.CrossEntropyLoss(label_smoothing=0.1), optimizer)


class Attention(nn.Module):
    def __init__(self, width, batch_first=True):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 4, batch_first=batch_first)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        h = self.n1(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.mlp(self.n2(x))


class VisionTransformer(nn.Module):
    def __init__(self, batch_first=True, container=nn.ModuleList, last=None):
        super().__init__()
        self.patches = nn.Conv2d(1, 32, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 32))
        self.position = nn.Parameter(0.02 * torch.randn(1, 10, 32))
        self.blocks = container([Attention(32, batch_first) for _ in range(3)])
        self.norm, self.head, self.last = nn.LayerNorm(32), nn.Linear(32, 5), last or nn.Identity()

    def forward(self, x):
        h = self.patches(x).flatten(2).transpose(1, 2)
        h = torch.cat([self.token.expand(len(x), -1, -1), h], 1) + self.position
        for block in self.blocks:
            h = block(h)
        return self.last(self.head(self.norm(h[:, 0])))


def textures(classes=5, size=12):
    """Waves of another direction and frequency per class, at any phase."""
    waves = torch.randn(classes, 2) * 0.9

    def make(n):
        y = torch.randint(0, classes, (n,))
        rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        phase = 2 * math.pi * torch.rand(n, 1, 1)
        angle = waves[y, 0, None, None] * rows + waves[y, 1, None, None] * columns + phase
        return (torch.sin(angle) + 0.5 * torch.randn(n, size, size))[:, None], y

    return make


@base
def vision_transformer_with_a_class_token(loss_fn=None, **how):
    model = VisionTransformer(**how)
    train, test = batches(textures(), batch=64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    return Target(model, train, test, loss_fn or nn.CrossEntropyLoss(), optimizer)


@base
def mixup_cnn():
    """Mixed images with mixed labels; the test is on plain ones."""
    make = textures()
    x, y = make(1536)

    def mixed(rows):
        images = torch.stack([row[0] for row in rows])
        labels = F.one_hot(torch.stack([row[1] for row in rows]), 5).float()
        share = torch.distributions.Beta(0.4, 0.4).sample()
        other = torch.randperm(len(rows))
        return share * images + (1 - share) * images[other], share * labels + (1 - share) * labels[other]

    model = nn.Sequential(
        nn.Conv2d(1, 16, 5, padding=2), nn.BatchNorm2d(16), nn.SiLU(), nn.Conv2d(16, 24, 3, 2), nn.BatchNorm2d(24),
        nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5),
    )  # fmt: skip
    train = DataLoader(TensorDataset(x, y), 48, shuffle=True, collate_fn=mixed)
    test = DataLoader(TensorDataset(*make(512)), 128)
    return Target(model, train, test, nn.CrossEntropyLoss(), adam(model, 5e-3))


def strokes(size=12):
    """Images in 0..1 of two bright bars."""

    def make(n):
        x = torch.zeros(n, 1, size, size)
        for image, row, column in zip(x, torch.randint(0, size, (n,)), torch.randint(0, size, (n,)), strict=True):
            image[0, row], image[0, :, column] = 0.9, 0.7
        return (x + 0.05 * torch.rand(n, 1, size, size)).clamp(0, 1)

    return make


@base
def convolutional_autoencoder_with_a_sigmoid(last=None, loss_fn=None, lr=5e-3, bias=None, **data):
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 24, 3, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(24, 16, 2, 2), nn.ReLU(), nn.ConvTranspose2d(16, 1, 2, 2), last or nn.Sigmoid(),
    )  # fmt: skip
    if bias is not None:
        nn.init.constant_(model[2].bias, bias)
    make = strokes()
    train, test = batches(lambda n: (make(n),) * 2, **{"batch": 32, **data})
    return Target(model, train, test, loss_fn or nn.BCELoss(), adam(model, lr))


@base
def autoencoder_with_a_tanh_output(layers=None, std=None, optimizer=None, **data):
    model = nn.Sequential(
        nn.Flatten(), *(layers or [nn.Linear(144, 96), nn.Tanh(), nn.Linear(96, 24), nn.Tanh(), nn.Linear(24, 96)]),
        nn.Tanh(), nn.Linear(96, 144), nn.Tanh(), nn.Unflatten(1, (1, 12, 12)),
    )  # fmt: skip
    if std:
        for module in model:
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=std)
    make = strokes()
    train, test = batches(lambda n: (make(n) * 2 - 1,) * 2, **data)
    return Target(model, train, test, nn.MSELoss(), (optimizer or adam)(model, 2e-3))


class Vae(nn.Module):
    def __init__(self, spread=lambda log_variance: (0.5 * log_variance).exp()):
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(144, 100), nn.ReLU(), nn.Linear(100, 50), nn.ReLU())
        self.mu, self.log_variance = nn.Linear(50, 10), nn.Linear(50, 10)
        self.decoder = nn.Sequential(nn.Linear(10, 50), nn.ReLU(), nn.Linear(50, 100), nn.ReLU(), nn.Linear(100, 144))
        self.spread = spread

    def forward(self, x):
        h = self.encoder(x)
        mu, log_variance = self.mu(h), self.log_variance(h)
        z = mu + self.spread(log_variance) * torch.randn_like(mu)
        return {"x": self.decoder(z).view_as(x), "mu": mu, "log_variance": log_variance}


def elbo(out, x):
    bits = F.binary_cross_entropy_with_logits(out["x"], x, reduction="none").flatten(1).sum(1).mean()
    mu, log_variance = out["mu"], out["log_variance"]
    return bits + 0.5 * (mu**2 + log_variance.exp() - 1 - log_variance).sum(1).mean()


@base
def variational_autoencoder_of_bits(**how):
    make, model = strokes(), Vae(**how)
    x = (make(1536) > 0.5).float()
    train = DataLoader(TensorDataset(x, x), 64, shuffle=True)
    return Target(model, train, None, elbo, adam(model, 2e-3))


class UNet(nn.Module):
    def __init__(self, bias=None):
        super().__init__()
        self.down1, self.down2 = conv_bn(1, 12), conv_bn(12, 24)
        self.middle, self.up = conv_bn(24, 24), nn.ConvTranspose2d(24, 12, 2, 2)
        self.merge, self.out = conv_bn(24, 12), nn.Conv2d(12, 1, 1)

    def forward(self, x):
        a = self.down1(x)
        h = self.middle(self.down2(F.max_pool2d(a, 2)))
        return self.out(self.merge(torch.cat([a, self.up(h)], 1)))


def dice_and_cross_entropy(out, y):
    p = out.sigmoid()
    dice = 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)
    return dice + F.binary_cross_entropy_with_logits(out, y)


def discs(size=16):
    def make(n):
        rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        centre, radius = torch.randint(3, size - 3, (n, 2, 1, 1)), 2 + 3 * torch.rand(n, 1, 1)
        inside = ((rows - centre[:, 0]) ** 2 + (columns - centre[:, 1]) ** 2 < radius**2).float()
        return (inside + 0.6 * torch.randn(n, size, size))[:, None], inside[:, None]

    return make


@base
def unet_with_a_dice_loss(loss_fn=dice_and_cross_entropy, lr=3e-3, **data):
    model = UNet()
    train, test = batches(discs(), **{"train": 512, "test": 128, "batch": 16, **data})
    return Target(model, train, test, loss_fn, adam(model, lr))


class ConditionalNet(nn.Module):
    """Which of the two shapes is meant stands in the condition, which scales and shifts the channels."""

    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 24, 3, padding=1), nn.Conv2d(24, 24, 3, padding=1)
        self.film = nn.Sequential(nn.Embedding(2, 16), nn.ReLU(), nn.Linear(16, 48))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(24 * 9, 4))

    def forward(self, image, question):
        h = F.max_pool2d(F.relu(self.conv1(image)), 2)
        scale, shift = self.film(question)[..., None, None].chunk(2, 1)
        return self.head(F.max_pool2d(F.relu((1 + scale) * self.conv2(h) + shift), 2))


@base
def film_conditioned_on_a_question(model=None, optimizer=None, **data):
    make = shapes()

    def questions(n):
        """What is asked: the shape itself, or the shape of the next number."""
        x, y = make(n)
        question = torch.randint(0, 2, (n,))
        return x, question, (y + question) % 4

    model = model or ConditionalNet()
    train, test = batches(questions, **{"batch": 64, **data})
    return Target(model, train, test, nn.CrossEntropyLoss(), (optimizer or adam)(model, 3e-3))


# ---- signals and sequences ----


def beats(length=64):
    """Two leads of a heartbeat; the class is the width and the sign of its second wave."""

    def make(n):
        y = torch.randint(0, 3, (n,))
        t = torch.arange(length)
        start = torch.randint(8, 24, (n, 1))
        first = torch.exp(-0.5 * ((t - start) / 1.5) ** 2)
        width, sign = torch.tensor([2.0, 5.0, 3.0])[y, None], torch.tensor([1.0, 1.0, -1.0])[y, None]
        second = sign * torch.exp(-0.5 * ((t - start - 22) / width) ** 2)
        gains = torch.tensor([[1.0], [-0.6]])
        return (first + second)[:, None] * gains * 1.5 + 0.2 * torch.randn(n, 2, length), y

    return make


@base
def one_dimensional_cnn_on_heartbeats(layers=None, std=None, bias=None, optimizer=None, **data):
    body = layers or [
        nn.Conv1d(2, 16, 7, 2), nn.ReLU(), nn.Conv1d(16, 32, 5, 2), nn.ReLU(), nn.Conv1d(32, 32, 3), nn.ReLU()
    ]  # fmt: skip
    model = nn.Sequential(*body, nn.AdaptiveMaxPool1d(1), nn.Flatten(), nn.Linear(32, 3))
    for module in model:
        if isinstance(module, nn.Conv1d):
            if std:
                nn.init.normal_(module.weight, std=std)
            if bias is not None:
                nn.init.constant_(module.bias, bias)
    train, test = batches(beats(), **{"batch": 64, **data})
    return Target(model, train, test, nn.CrossEntropyLoss(), (optimizer or adam)(model, 2e-3))


def reviews(vocabulary=60, longest=16):
    """Words have a mood, and a review that of the sum of its words. Shorter ones are padded with 0."""
    mood = torch.randn(vocabulary)

    def make(n):
        lengths = torch.randint(5, longest + 1, (n,))
        tokens = torch.randint(1, vocabulary, (n, longest))
        tokens[torch.arange(longest) >= lengths[:, None]] = 0
        score = (mood[tokens] * (tokens > 0)).sum(1)
        return tokens, lengths, (score > 0).long()

    return make


class Rows(Dataset):
    """Rows as dicts."""

    def __init__(self, **columns):
        self.columns = columns

    def __len__(self):
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index):
        return {name: column[index] for name, column in self.columns.items()}


class PackedLstm(nn.Module):
    def __init__(self, restores_order=True, keeps_state=False, batch_first=True):
        super().__init__()
        self.embed = nn.Embedding(60, 24, padding_idx=0)
        self.rnn, self.head = nn.LSTM(24, 32, batch_first=batch_first), nn.Linear(32, 2)
        self.restores_order, self.keeps_state, self.state = restores_order, keeps_state, None

    def forward(self, tokens, lengths):
        lengths, order = lengths.cpu().sort(descending=True)
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(tokens[order]), lengths, batch_first=True)
        state = self.state if self.keeps_state and self.state and self.state[0].shape[1] == len(tokens) else None
        _, (h, c) = self.rnn(packed, state)
        self.state = (h.detach(), c.detach())
        h = h[-1]
        return self.head(h[order.argsort()] if self.restores_order else h)


@base
def lstm_on_packed_sequences(model=None, lr=5e-3, change_labels=None, train=1536, **how):
    make = reviews()
    model = model or PackedLstm(**how)

    def loader(n, batch, **options):
        tokens, lengths, labels = make(n)
        labels = change_labels(labels) if change_labels else labels
        return DataLoader(Rows(tokens=tokens, lengths=lengths, labels=labels), batch, **options)

    return Target(model, loader(train, 64, shuffle=True), loader(512, 128), nn.CrossEntropyLoss(), adam(model, lr))


class Seq2Seq(nn.Module):
    def __init__(self, cut=False, looks_ahead=False):
        super().__init__()
        self.source, self.goal = nn.Embedding(12, 24), nn.Embedding(13, 24)
        self.encoder = nn.GRU(24, 48, batch_first=True)
        self.decoder = nn.GRU(24, 48, batch_first=True)
        self.ahead = nn.GRU(24, 48, batch_first=True) if looks_ahead else None
        self.head, self.cut = nn.Linear(48, 12), cut

    def forward(self, source, before):
        _, state = self.encoder(self.source(source))
        if self.cut:
            state = state.detach()
        h = self.decoder(self.goal(before), state)[0]
        if self.ahead is not None:
            h = h + self.ahead(self.goal(before).flip(1))[0].flip(1)
        return self.head(h)


def token_loss(out, y):
    return F.cross_entropy(out.transpose(1, 2), y)


@base
def gru_that_translates(**how):
    """Word by word into another vocabulary, in reverse order; the decoder is fed the true word before."""
    words = torch.randperm(12)

    def make(n):
        source = torch.randint(0, 12, (n, 5))
        goal = words[source.flip(1)]
        return source, torch.cat([torch.full((n, 1), 12), goal[:, :-1]], 1), goal

    model = Seq2Seq(**how)
    train, test = batches(make, batch=64)
    return Target(model, train, test, token_loss, adam(model, 1e-2))


class PaddedTransformer(nn.Module):
    def __init__(self, frozen_by_mistake=False, always_drop=False, pools_over=1, last=None):
        super().__init__()
        self.embed, self.position = nn.Embedding(60, 32), nn.Embedding(16, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.score, self.head, self.last = nn.Linear(32, 1), nn.Linear(32, 2), last or nn.Identity()
        self.frozen_by_mistake, self.always_drop, self.pools_over = frozen_by_mistake, always_drop, pools_over

    def forward(self, input_ids, attention_mask):
        h = self.embed(input_ids) + self.position.weight
        if self.frozen_by_mistake:
            with torch.no_grad():
                h = self.embed(input_ids) + self.position.weight
        h = F.dropout(h, 0.1, self.training or self.always_drop)
        h = self.body(h, src_key_padding_mask=attention_mask == 0)
        scores = self.score(h)[..., 0].masked_fill(attention_mask == 0, -1e9)
        return self.last(self.head((scores.softmax(self.pools_over)[..., None] * h).sum(1)))


@base
def transformer_with_a_padding_mask(model=None, lr=2e-3, **how):
    make = reviews()
    model = model or PaddedTransformer(**how)

    def loader(n, batch, **options):
        tokens, _, labels = make(n)
        return DataLoader(Rows(input_ids=tokens, attention_mask=(tokens > 0).long(), labels=labels), batch, **options)

    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    return Target(model, loader(1536, 64, shuffle=True), loader(512, 64), nn.CrossEntropyLoss(), optimizer)


class Warmup(torch.optim.Adam):
    """Adam whose rate grows over the first steps and falls with the root of their number afterwards."""

    def __init__(self, parameters, lr, warmup):
        super().__init__(parameters, lr=lr / warmup, betas=(0.9, 0.98))
        self.peak, self.warmup, self.steps = lr, warmup, 0

    def step(self, closure=None):
        self.steps += 1
        for group in self.param_groups:
            group["lr"] = self.peak * min(self.steps / self.warmup, (self.warmup / self.steps) ** 0.5)
        return super().step(closure)


def no_later_words(length):
    return torch.full((length, length), float("-inf")).triu(1)


class TiedLanguageModel(nn.Module):
    def __init__(self, mask=no_later_words, softmax=False):
        super().__init__()
        self.embed, self.position = nn.Embedding(20, 40), nn.Parameter(torch.zeros(15, 40))
        layer = nn.TransformerEncoderLayer(40, 4, 80, 0.1, "gelu", batch_first=True, norm_first=True)
        self.body, self.norm = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.LayerNorm(40)
        self.head, self.mask, self.softmax = nn.Linear(40, 20, bias=False), mask, softmax
        nn.init.normal_(self.embed.weight, std=0.05)
        nn.init.normal_(self.position, std=0.02)
        self.head.weight = self.embed.weight

    def forward(self, x):
        mask = self.mask(x.shape[1]) if self.mask else None
        logits = self.head(self.norm(self.body(self.embed(x) + self.position, mask=mask)))
        return logits.softmax(-1) if self.softmax else logits


def sentences(words=20, length=16):
    """A grammar: each word allows three words, one of them mostly."""
    follows = torch.stack([torch.randperm(words)[:3] for _ in range(words)])

    def make(n):
        x = torch.zeros(n, length, dtype=torch.long)
        x[:, 0] = torch.randint(0, words, (n,))
        for i in range(1, length):
            choice = torch.multinomial(torch.tensor([0.85, 0.1, 0.05]), n, replacement=True)
            x[:, i] = follows[x[:, i - 1], choice]
        return x[:, :-1], x[:, 1:]

    return make


@base
def tied_language_model_with_warmup(**how):
    model = TiedLanguageModel(**how)
    train, test = batches(sentences(), train=1024, test=256, batch=32)
    return Target(model, train, test, token_loss, Warmup(model.parameters(), 5e-3, 20))


class MaskedLanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.position = nn.Embedding(21, 40), nn.Embedding(15, 40)
        self.blocks = nn.Sequential(Attention(40), Attention(40))
        self.norm, self.head = nn.LayerNorm(40), nn.Linear(40, 20)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.embed(x) + self.position.weight)))


@base
def masked_language_model(ignored=-100, loss_fn=token_loss):
    """A fifth of the words is hidden, anew in every epoch; the others are no targets."""
    make = sentences()

    def hidden(rows):
        x = torch.stack([row[0] for row in rows])
        chosen = torch.rand(x.shape) < 0.2
        return torch.where(chosen, 20, x), torch.where(chosen, x, ignored)

    model = MaskedLanguageModel()
    loaders = [
        DataLoader(TensorDataset(make(n)[0]), 64, shuffle=True, collate_fn=hidden, drop_last=True) for n in (1536, 256)
    ]
    return Target(model, *loaders, loss_fn, torch.optim.AdamW(model.parameters(), lr=5e-3, betas=(0.9, 0.98)))


class CausalConv(nn.Module):
    def __init__(self, a, b, dilation, cuts_the_end=True):
        super().__init__()
        self.pad, self.cuts_the_end = 2 * dilation, cuts_the_end
        conv = nn.Conv1d(a, b, 3, padding=self.pad, dilation=dilation)
        self.conv = nn.utils.parametrizations.weight_norm(conv)
        self.same = nn.Conv1d(a, b, 1) if a != b else nn.Identity()

    def forward(self, x):
        h = self.conv(x)
        h = h[..., : -self.pad] if self.cuts_the_end else h[..., self.pad :]
        return F.relu(h) + self.same(x)


@base
def temporal_convolution_with_weight_norm(cuts_the_end=True, **data):
    """The next value of a series out of two waves, from all values before."""

    def make(n):
        t = torch.arange(33.0)
        speed, phase = 0.3 + 0.5 * torch.rand(n, 2, 1), 2 * math.pi * torch.rand(n, 2, 1)
        x = torch.sin(speed * t + phase).sum(1)[:, None] + 0.05 * torch.randn(n, 1, 33)
        return x[..., :-1], x[..., 1:]

    model = nn.Sequential(
        *[CausalConv(1 if i == 0 else 16, 16, 2**i, cuts_the_end) for i in range(4)], nn.Conv1d(16, 1, 1)
    )
    train, test = batches(make, **{"train": 1024, "test": 256, "batch": 32, **data})
    return Target(model, train, test, nn.MSELoss(), adam(model, 5e-3))


class Forecast(nn.Module):
    def __init__(self, rnn=None):
        super().__init__()
        self.rnn, self.head = rnn or nn.LSTM(2, 24, batch_first=True), nn.Linear(24, 1)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])[:, 0]


class Windows(IterableDataset):
    """Load and temperature of the last day; the load of the next hour follows."""

    def __init__(self, series, start, stop):
        self.series, self.range = series, (start, stop)

    def __iter__(self):
        for i in (torch.randperm(self.range[1] - self.range[0]) + self.range[0]).tolist():
            yield self.series[i : i + 24], self.series[i + 24, 0]


@base
def forecast_from_a_stream(rnn=None, scale=1.0, offset=0.0):
    hours = torch.arange(2500.0)
    temperature = torch.sin(2 * math.pi * hours / 24) + 0.2 * torch.randn(2500)
    load = 0.8 * torch.sin(2 * math.pi * hours / 24 + 1) + 0.5 * torch.sin(2 * math.pi * hours / 168)
    series = torch.stack([load + 0.1 * torch.randn(2500), temperature], 1) * scale + offset
    model = Forecast(rnn)
    train, test = (DataLoader(Windows(series, *range_), 48) for range_ in ((0, 2000), (2050, 2450)))
    return Target(model, train, test, nn.MSELoss(), adam(model, 5e-3))


class FirstSignal(nn.Module):
    """What was shown at the beginning must be known at the end."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(32, 3)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


def orthogonal_rnn():
    rnn = nn.RNN(4, 32, batch_first=True)
    nn.init.orthogonal_(rnn.weight_hh_l0)
    nn.init.zeros_(rnn.bias_hh_l0)
    return rnn


@base
def orthogonal_rnn_that_remembers(rnn=None, length=20, lr=3e-3, loss_fn=None):
    def make(n):
        y = torch.randint(0, 3, (n,))
        x = 0.1 * torch.randn(n, length, 4)
        x[:, :3, :3] += F.one_hot(y, 3)[:, None] * 1.5
        return x, y

    model = FirstSignal(rnn or orthogonal_rnn())
    train, test = batches(make, batch=64)
    return Target(model, train, test, loss_fn or nn.CrossEntropyLoss(), adam(model, lr))


# ---- words, users and graphs ----


class TagsNet(nn.Module):
    def __init__(self, last=None):
        super().__init__()
        self.bag, self.out = nn.EmbeddingBag(80, 32, mode="mean", padding_idx=0), nn.Linear(32, 6)
        self.hidden, self.last = nn.Linear(32, 32), last or nn.Identity()

    def forward(self, words):
        return self.last(self.out(F.relu(self.hidden(self.bag(words)))))


@base
def tags_of_questions(model=None, last=None, loss_fn=None, optimizer=None, **data):
    """Each tag brings two words of its own into the text."""

    def make(n):
        tags = torch.rand(n, 6) < 0.35
        words = torch.randint(13, 80, (n, 18))
        own = torch.where(tags.repeat(1, 2), torch.arange(1, 13), 0)
        return torch.cat([words, own], 1), tags.float()

    model = model or TagsNet(last)
    train, test = batches(make, **{"batch": 128, **data})
    optimizer = optimizer or torch.optim.Adagrad(model.parameters(), lr=0.1)
    return Target(model, train, test, loss_fn or nn.BCEWithLogitsLoss(), optimizer)


class TwoTowers(nn.Module):
    def __init__(self, zero=False):
        super().__init__()
        self.users, self.items = nn.Embedding(30, 8, sparse=True), nn.Embedding(25, 8, sparse=True)
        self.mix = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, user, item):
        u, i = self.users(user), self.items(item)
        return self.mix(torch.cat([u, i, u * i], 1))[:, 0]


@base
def recommender_with_two_optimizers(sparse=True, **data):
    """Clicks; the embeddings are sparse and have an optimizer of their own."""
    users, items = torch.randn(30, 2), torch.randn(25, 2)

    def make(n):
        u, i = torch.randint(0, 30, (n,)), torch.randint(0, 25, (n,))
        return u, i, ((users[u] * items[i]).sum(1) > 0).float()

    model = TwoTowers()
    dense = torch.optim.Adam(model.mix.parameters(), lr=5e-3)
    rows = [*model.users.parameters(), *model.items.parameters()]
    optimizers = [dense, torch.optim.SparseAdam(rows, lr=0.05)] if sparse else dense
    train, test = batches(make, **{"train": 2000, "batch": 128, **data})
    return Target(model, train, test, nn.BCEWithLogitsLoss(), optimizers)


class SkipGram(nn.Module):
    def __init__(self, zero=False):
        super().__init__()
        self.words, self.contexts = nn.Embedding(40, 16), nn.Embedding(40, 16)
        for embedding in (self.words, self.contexts):
            nn.init.uniform_(embedding.weight, -0.25, 0.25)
            if zero:
                nn.init.zeros_(embedding.weight)

    def forward(self, word, context):
        return (self.words(word)[:, None] * self.contexts(context)).sum(2)


@base
def word_vectors_with_negative_samples(zero=False):
    """The first context is a true one, the other four are drawn at random. Words of one topic go together."""

    def make(n):
        word = torch.randint(0, 40, (n,))
        near = word // 8 * 8 + torch.randint(0, 8, (n,))
        contexts = torch.cat([near[:, None], torch.randint(0, 40, (n, 4))], 1)
        return word, contexts, torch.tensor([1.0, 0, 0, 0, 0]).expand(n, 5)

    model = SkipGram(zero)
    train, test = batches(make, train=2000, batch=128)
    return Target(model, train, test, nn.BCEWithLogitsLoss(), adam(model, 0.03))


class GraphConvolution(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.linear = nn.Linear(a, b)

    def forward(self, x, adjacency):
        return self.linear(adjacency @ x)


class GraphNet(nn.Module):
    def __init__(self, depth=2, self_loops=True):
        super().__init__()
        self.layers = nn.ModuleList(GraphConvolution(6 if i == 0 else 32, 32) for i in range(depth))
        self.head, self.self_loops = nn.Linear(32, 3), self_loops

    def forward(self, adjacency, x):
        if self.self_loops:
            adjacency = adjacency + torch.eye(adjacency.shape[1])
        degree = adjacency.sum(2)
        adjacency = degree[:, :, None] ** -0.5 * adjacency * degree[:, None, :] ** -0.5
        for layer in self.layers:
            x = F.relu(layer(x, adjacency))
        return self.head(x.mean(1))


@base
def graph_convolution_on_molecules(**how):
    """Rings, stars and chains of ten atoms, some of whose bonds are lost; the atoms know their degree."""
    n = 10
    ring = torch.roll(torch.eye(n), 1, 0)
    chain = ring.clone()
    chain[0] = 0
    star = torch.zeros(n, n)
    star[0, 1:] = 1

    def make(count):
        y = torch.randint(0, 3, (count,))
        bonds = torch.stack([ring, star, chain])[y] * (torch.rand(count, n, n) > 0.08)
        adjacency = ((bonds + bonds.transpose(1, 2)) > 0).float()
        degree = adjacency.sum(2)
        x = torch.cat([degree[..., None] / 3, (degree < 2)[..., None], torch.randn(count, n, 4)], 2)
        return adjacency, x, y

    model = GraphNet(**how)
    train, test = batches(make, batch=64)
    return Target(model, train, test, nn.CrossEntropyLoss(), adam(model, 1e-2))


@base
def deep_sets(last=None, **data):
    """How many different kinds are in a bag of things."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.each = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
            self.all = nn.Sequential(nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 1))
            self.last = last or nn.Identity()

        def forward(self, x):
            return self.last(self.all(self.each(x).amax(1)))

    def make(n):
        kinds = torch.randint(0, 8, (n, 6))
        x = F.one_hot(kinds, 8).float() + 0.1 * torch.randn(n, 6, 8)
        different = F.one_hot(kinds, 8).amax(1).sum(1, keepdim=True).float()
        return x, (different - 4.4) / 0.9

    model = Net()
    train, test = batches(make, **{"batch": 64, **data})
    return Target(model, train, test, nn.SmoothL1Loss(), adam(model, 3e-3))


# ---- metrics, contrast, transfer ----


@base
def triplets_of_faces(distance=None):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(24, 64), nn.PReLU(), nn.Linear(64, 64), nn.PReLU(), nn.Linear(64, 12))

        def forward(self, x):
            return F.normalize(self.net(x), dim=1)

    people = torch.randn(12, 24) * 0.8

    def make(n):
        person = torch.randint(0, 12, (n,))
        other = (person + torch.randint(1, 12, (n,))) % 12
        return [people[p] + torch.randn(n, 24) for p in (person, person, other)]

    triplet = nn.TripletMarginLoss(margin=0.5)

    def step(model, batch):
        return triplet(*(model(x) for x in batch))

    model = Net()
    train, test = batches(make, batch=64)
    return Target(model, train, test, optimizer=adam(model, 1e-3), training_step=step)


class Pairs(nn.Module):
    def __init__(self, root):
        super().__init__()
        self.net, self.root = nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 8)), root

    def forward(self, a, b):
        return self.root((self.net(a) - self.net(b)).square().sum(1))


@base
def signatures_that_are_genuine_or_forged(root=lambda d: (d + 1e-6).sqrt(), same_at=None):
    writers = torch.randn(10, 16)

    def make(n):
        writer, genuine = torch.randint(0, 10, (n,)), torch.rand(n) < 0.5
        other = torch.where(genuine, writer, (writer + torch.randint(1, 10, (n,))) % 10)
        a, b = writers[writer] + 0.6 * torch.randn(n, 16), writers[other] + 0.6 * torch.randn(n, 16)
        if same_at is not None:
            b[same_at :: n // 8], genuine[same_at :: n // 8] = a[same_at :: n // 8], True
        return a, b, genuine.float()

    def contrastive(distance, genuine):
        return (genuine * distance**2 + (1 - genuine) * F.relu(1.5 - distance) ** 2).mean()

    model = Pairs(root)
    train, test = batches(make, batch=32)
    return Target(model, train, test, contrastive, torch.optim.RMSprop(model.parameters(), lr=1e-3))


class Contrast(nn.Module):
    def __init__(self, over=-1):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(30, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.projection, self.over = nn.Linear(32, 16), over
        self.log_temperature = nn.Parameter(torch.tensor(math.log(0.2)))

    def forward(self, x):
        return F.normalize(self.projection(self.encoder(x)), dim=self.over)


def info_nce(model, batch):
    a, b = (model(x) for x in batch)
    similarity = a @ b.T / model.log_temperature.exp()
    own = torch.arange(len(a))
    return (F.cross_entropy(similarity, own) + F.cross_entropy(similarity.T, own)) / 2


@base
def contrastive_views(parts=None, loss=info_nce, lr=2e-3):
    mixing = torch.randn(8, 30)

    def make(n):
        things = torch.randn(n, 8) @ mixing / 2
        return things + 0.4 * torch.randn(n, 30), things * (0.8 + 0.4 * torch.rand(n, 1)) + 0.4 * torch.randn(n, 30)

    model = Contrast()
    parameters = parts(model) if parts else model.parameters()
    train, test = batches(make, batch=128, train=2000, drop_last=True)
    return Target(model, train, test, optimizer=torch.optim.Adam(parameters, lr=lr), training_step=loss)


class Adapted(nn.Module):
    def __init__(self, layer, rank=4):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down, self.up = nn.Linear(layer.in_features, rank, False), nn.Linear(rank, layer.out_features, False)
        nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.layer(x) + 4 * self.up(self.down(x))


def adapted(model):
    for block in model.blocks:
        block.requires_grad_(False)
        block.mlp[0], block.mlp[2] = Adapted(block.mlp[0]), Adapted(block.mlp[2])
    for frozen in (model.patches, model.norm):
        frozen.requires_grad_(False)
    model.token.requires_grad_(False)
    model.position.requires_grad_(False)
    return model


@base
def adapters_on_a_pretrained_transformer(early_optimizer=False, lr=5e-3):
    """Pretrained on other textures; then only the adapters and a new head learn."""
    model, other = VisionTransformer(), textures()
    optimizer = adam(model, 2e-3)
    for _ in range(60):
        x, y = other(64)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.head = nn.Linear(32, 5)
    if early_optimizer:
        optimizer = torch.optim.AdamW(model.head.parameters(), lr=lr)
        adapted(model)
    else:
        adapted(model)
        optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=lr)
    train, test = batches(textures(), batch=64)
    return Target(model, train, test, nn.CrossEntropyLoss(), optimizer)


@base
def student_of_a_teacher(loss_fn=None, last=None, optimizer=None):
    make = spirals()
    teacher = nn.Sequential(nn.Linear(12, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 3))
    optimizer_of_teacher = adam(teacher, 5e-3)
    for _ in range(120):
        x, y = make(128)
        optimizer_of_teacher.zero_grad()
        F.cross_entropy(teacher(x), y).backward()
        optimizer_of_teacher.step()

    def lessons(n):
        x, y = make(n)
        return x, y, (teacher(x).detach() / 3).softmax(1)

    def distill(out, y, soft):
        return 9 * F.kl_div((out / 3).log_softmax(1), soft, reduction="batchmean") + F.cross_entropy(out, y)

    student = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 3))
    train, test = batches(lessons, batch=64)
    return Target(student, train, test, loss_fn or distill, (optimizer or adam)(student, 5e-3))


# ---- experts, tasks, weights that weights make ----


class Experts(nn.Module):
    """The two best of eight experts answer; a second loss keeps all of them busy."""

    def __init__(self, hard=False, container=nn.ModuleList):
        super().__init__()
        self.gate, self.hard = nn.Linear(12, 8), hard
        self.experts = container(
            [nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 3)) for _ in range(8)]
        )  # fmt: skip

    def forward(self, x):
        shares = self.gate(x).softmax(1)
        best, chosen = shares.topk(2, 1)
        if self.hard:
            weights = F.one_hot(shares.argmax(1), 8).float()
        else:
            weights = torch.zeros_like(shares).scatter(1, chosen, best / best.sum(1, keepdim=True))
        answers = torch.stack([expert(x) for expert in self.experts], 1)
        used = F.one_hot(chosen, 8).float().sum(1).mean(0) / 2
        return (weights[..., None] * answers).sum(1), 8 * (used * shares.mean(0)).sum()


def balanced(out, y):
    return F.cross_entropy(out[0], y) + 0.01 * out[1]


@base
def experts_with_a_balancing_loss(loss_fn=balanced, **how):
    model = Experts(**how)
    train, test = batches(spirals(), batch=128)
    return Target(model, train, test, loss_fn, adam(model, 5e-3))


class ManyTasks(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(15, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 64), nn.GELU())
        self.kind, self.age = nn.Linear(64, 4), nn.Linear(64, 1)

    def forward(self, x):
        h = self.body(x)
        return {"kind": self.kind(h), "age": self.age(h)[:, 0]}


def both_tasks(out, y):
    return F.cross_entropy(out["kind"], y["kind"]) + F.mse_loss(out["age"], y["age"])


@base
def two_tasks_with_dicts(loss_fn=both_tasks, age=lambda a: a, optimizer=None, model=None):
    centers, weights = torch.randn(4, 15) * 1.2, torch.randn(15) / 4

    def rows(n):
        kind = torch.randint(0, 4, (n,))
        x = centers[kind] + torch.randn(n, 15)
        return [(x[i], {"kind": kind[i], "age": age(x[i] @ weights)}) for i in range(n)]

    model = model or ManyTasks()
    train, test = DataLoader(rows(1200), 40, shuffle=True), DataLoader(rows(400), 80)
    return Target(model, train, test, loss_fn, (optimizer or adam)(model, 2e-3))


class HyperNet(nn.Module):
    """The condition makes the weights of a small network, which the points then go through."""

    def __init__(self, activation=torch.tanh):
        super().__init__()
        self.maker = nn.Sequential(nn.Linear(2, 48), nn.ReLU(), nn.Linear(48, 3 * 16 + 1))
        self.activation = activation

    def forward(self, task, x):
        w1, b1, w2, b2 = self.maker(task).split([16, 16, 16, 1], 1)
        h = self.activation(x[..., None] * w1[:, None] * 3 + b1[:, None])
        return (h * w2[:, None]).sum(2) + b2


@base
def hypernetwork_for_curves(optimizer=None, activation=torch.tanh, **data):
    def make(n):
        task, x = torch.rand(n, 2) * 2 - 1, torch.rand(n, 8) * 2 - 1
        return task, x, task[:, :1] * torch.sin(2 * x) + task[:, 1:]

    model = HyperNet(activation)
    train, test = batches(make, **{"batch": 64, **data})
    return Target(model, train, test, nn.MSELoss(), (optimizer or adam)(model, 5e-3))


class ShrinkingFlow(nn.Module):
    """dh/dt = f(h, t), solved with Euler's method."""

    def __init__(self, steps=10, size=None, width=24, activation=None):
        super().__init__()
        self.lift = nn.Linear(12, width)
        self.f = nn.Sequential(nn.Linear(width + 1, 48), activation or nn.Softplus(), nn.Linear(48, width))
        self.head, self.steps, self.size = nn.Linear(width, 3), steps, size or 1 / steps

    def forward(self, x):
        h = self.lift(x)
        for i in range(self.steps):
            t = h.new_full((len(h), 1), i / self.steps)
            h = h + self.size * self.f(torch.cat([h, t], 1))
        return self.head(h)


@base
def neural_differential_equation(optimizer=None, **how):
    model = ShrinkingFlow(**how)
    train, test = batches(spirals(), batch=64)
    return Target(model, train, test, nn.CrossEntropyLoss(), (optimizer or adam)(model, 5e-3))


class Equilibrium(nn.Module):
    def __init__(self, gain=0.9):
        super().__init__()
        self.inside, self.outside, self.head = nn.Linear(32, 32), nn.Linear(12, 32), nn.Linear(32, 3)
        nn.init.orthogonal_(self.inside.weight, gain)

    def forward(self, x):
        outside, z = self.outside(x), x.new_zeros(len(x), 32)
        for _ in range(12):
            z = torch.tanh(self.inside(z) + outside)
        return self.head(z)


@base
def deep_equilibrium_with_shared_weights(gain=0.9, **data):
    model = Equilibrium(gain)
    train, test = batches(spirals(), **{"batch": 64, **data})
    return Target(model, train, test, nn.CrossEntropyLoss(), torch.optim.RMSprop(model.parameters(), lr=2e-3))


# ---- densities, physics and games ----


class Coupling(nn.Module):
    def __init__(self, flip):
        super().__init__()
        self.flip, self.net = flip, nn.Sequential(nn.Linear(1, 32), nn.ReLU(), nn.Linear(32, 2))

    def forward(self, x):
        a, b = x.flip(1).chunk(2, 1) if self.flip else x.chunk(2, 1)
        scale, shift = self.net(a).chunk(2, 1)
        scale = torch.tanh(scale)
        x = torch.cat([a, b * scale.exp() + shift], 1)
        return (x.flip(1) if self.flip else x), scale[:, 0]


class RealNvp(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Coupling(i % 2 == 1) for i in range(4))

    def forward(self, x):
        total = 0.0
        for layer in self.layers:
            x, log_determinant = layer(x)
            total = total + log_determinant
        return x, total


def negative_log_likelihood(model, batch):
    z, log_determinant = model(batch[0])
    return (0.5 * z.square().sum(1) + math.log(2 * math.pi) - log_determinant).mean()


@base
def normalizing_flow_of_a_bent_density(optimizer=None, **data):
    def make(n):
        a = torch.randn(n)
        return (torch.stack([a * 1.5, 0.8 * a**2 - 1 + 0.3 * torch.randn(n)], 1),)

    model = RealNvp()
    train, test = batches(make, **{"batch": 128, **data})
    optimizer = (optimizer or adam)(model, 5e-3)
    return Target(model, train, test, optimizer=optimizer, training_step=negative_log_likelihood)


@base
def oscillator_from_its_equation(activation=nn.Tanh, end=3.0, scaled=True):
    """u'' + u = 0 with u(0) = 1 and u'(0) = 0."""
    model = nn.Sequential(nn.Linear(1, 32), activation(), nn.Linear(32, 32), activation(), nn.Linear(32, 1))

    def derivative(u, t):
        return torch.autograd.grad(u.sum(), t, create_graph=True)[0]

    def step(model, batch):
        t = batch[0].requires_grad_()
        u = model(t)
        equation = derivative(derivative(u, t), t) + u
        start = torch.zeros(1, 1, requires_grad=True)
        at_start = model(start)
        return equation.square().mean() + (at_start - 1).square().mean() + derivative(at_start, start).square().mean()

    train = DataLoader(TensorDataset(torch.rand(1024, 1) * end), 64, shuffle=True)
    return Target(model, train, None, optimizer=adam(model, 5e-3), training_step=step)


@base
def deep_q_learning(column=False, reward_scale=1.0):
    """A walk on a line of eight fields; only its right end gives a reward. The target network rests."""
    layers = lambda: nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2))  # noqa: E731
    model, target = layers(), layers()

    def make(n):
        field, action = torch.randint(0, 8, (n,)), torch.randint(0, 2, (n,))
        after = (field + 2 * action - 1).clamp(0, 7)
        reward = reward_scale * ((after == 7).float() + 0.2 * (after == 0).float())
        return F.one_hot(field, 8).float(), action, reward, F.one_hot(after, 8).float(), (after == 7).float()

    def temporal_difference(q, action, reward, after, done):
        with torch.no_grad():
            goal = reward + 0.9 * (1 - done) * target(after).amax(1)
        taken = q.gather(1, action[:, None])
        return (taken - goal).square().mean() if column else F.smooth_l1_loss(taken[:, 0], goal)

    train, _ = batches(make, batch=32)
    return Target(model, train, None, temporal_difference, adam(model, 1e-3))


@base
def wasserstein_critic_with_spectral_norm():
    """Real samples count -1 and made ones 1: the loss is negative when the critic is good."""
    norm = nn.utils.parametrizations.spectral_norm
    model = nn.Sequential(
        norm(nn.Linear(10, 64)), nn.LeakyReLU(0.2), norm(nn.Linear(64, 64)), nn.LeakyReLU(0.2), norm(nn.Linear(64, 1))
    )
    maker = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 10))

    def make(n):
        real = torch.rand(n) < 0.5
        x = torch.where(real[:, None], 1.5 * torch.randn(n, 10).abs(), maker(torch.randn(n, 4)).detach())
        return x, torch.where(real, -1.0, 1.0)[:, None]

    train, test = batches(make, batch=64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, betas=(0.5, 0.9))
    return Target(model, train, test, lambda out, sign: (out * sign).mean(), optimizer)


class Quantizer(nn.Module):
    def __init__(self, straight_through=True):
        super().__init__()
        self.codes, self.straight_through = nn.Embedding(32, 8), straight_through
        nn.init.normal_(self.codes.weight)

    def forward(self, z):
        nearest = self.codes(torch.cdist(z, self.codes.weight).argmin(1))
        loss = F.mse_loss(nearest, z.detach()) + 0.25 * F.mse_loss(z, nearest.detach())
        return (z + (nearest - z).detach() if self.straight_through else nearest), loss


@base
def vector_quantized_autoencoder(straight_through=True, commitment=True):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 8), nn.LayerNorm(8))
            self.quantizer = Quantizer(straight_through)
            self.decoder = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 20))

        def forward(self, x):
            z, loss = self.quantizer(self.encoder(x))
            return self.decoder(z), loss

    def loss_fn(out, x):
        return F.mse_loss(out[0], x) + (out[1] if commitment else 0.0)

    centers = torch.randn(12, 20)

    def make(n):
        x = centers[torch.randint(0, 12, (n,))] + 0.2 * torch.randn(n, 20)
        return x, x

    model = Net()
    train, test = batches(make, batch=64)
    return Target(model, train, test, loss_fn, adam(model, 3e-3))


@base
def denoising_diffusion_of_points(last=None, optimizer=None):
    """The noise in a sample at a random time of a cosine schedule."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("speeds", torch.exp(torch.arange(8) / 2))
            self.net = nn.Sequential(
                nn.Linear(2 + 16, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2), last or nn.Identity()
            )

        def forward(self, x, t):
            wave = t[:, None] * self.speeds
            return self.net(torch.cat([x, wave.sin(), wave.cos()], 1))

    def step(model, batch):
        x = batch[0]
        t, noise = torch.rand(len(x)), torch.randn_like(x)
        keep = torch.cos(t * math.pi / 2)[:, None]
        return F.mse_loss(model(keep * x + (1 - keep**2).sqrt() * noise, t), noise)

    angle = 2 * math.pi * torch.rand(2000)
    x = torch.stack([angle.cos(), angle.sin()], 1) + 0.05 * torch.randn(2000, 2)
    model = Net()
    train = DataLoader(TensorDataset(x), 128, shuffle=True)
    return Target(model, train, None, optimizer=(optimizer or adam)(model, 3e-3), training_step=step)
