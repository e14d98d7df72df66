"""Training programs that were written after the rules were finished, by someone who had not read them.

LATER_BASES are healthy; their parameters are the places where a fault of LATER_BROKEN is put, their defaults healthy.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from gradcheck_kit.target import Target

LATER_BASES: dict[str, Callable[..., Target]] = {}
LATER_BROKEN = {}


def base(make):
    LATER_BASES[make.__name__] = make
    return make


def fault(healthy, *causes):
    """Made from the program `healthy`; `causes` are the rules that a fair reader accepts as its name."""

    def register(make):
        LATER_BROKEN[make.__name__] = (make, causes, healthy.__name__)
        return make

    return register


def unchanged(*columns):
    return columns


def split(make, *, batch=32, n=1280, held_out=256, change=unchanged, change_test=unchanged, collate=None, shuffle=True):
    """Two loaders of rows that `make(count)` draws; `change` alters both, `change_test` the second alone."""
    return (
        DataLoader(TensorDataset(*change(*make(n))), batch, shuffle=shuffle, collate_fn=collate),
        DataLoader(TensorDataset(*change_test(*change(*make(held_out)))), 128, collate_fn=collate),
    )


def adamw(model, lr):
    return torch.optim.AdamW(model.parameters(), lr=lr)


def nesterov(lr):
    def make(model, _lr):
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True)

    return make


def plain_momentum(lr, momentum=0.9):
    def make(model, _lr):
        return torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)

    return make


# ---- healthy: tables ----


PLATE_SHARES = torch.tensor([0.5, 0.25, 0.15, 0.1])


def plates(shares=PLATE_SHARES, apart=1.1):
    centers = apart * torch.randn(len(shares), 15)

    def make(n):
        y = torch.multinomial(shares, n, replacement=True)
        return centers[y] + torch.randn(n, 15), y

    return make


@base
def steel_plates_with_class_weights(shares=PLATE_SHARES, apart=1.1, weight=1 / (4 * PLATE_SHARES), last=None, **data):
    make = plates(shares, apart)
    train_loader, test_loader = split(make, **data)
    net = nn.Sequential(nn.Linear(15, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, len(shares)))
    if last is not None:
        net.append(last)
    criterion = nn.CrossEntropyLoss(weight=weight)
    return Target(net, train_loader, test_loader, criterion, torch.optim.Adagrad(net.parameters(), lr=0.05))


class RentNet(nn.Module):
    def __init__(self, districts=20, last=None, squeeze=True):
        super().__init__()
        self.district = nn.Embedding(districts, 6)
        self.fc1, self.fc2, self.fc3 = nn.Linear(13, 64), nn.Linear(64, 32), nn.Linear(32, 1)
        self.last, self.squeeze = last, squeeze

    def forward(self, numbers, district):
        x = torch.cat([numbers, self.district(district)], dim=1)
        x = F.relu(self.fc1(x))
        x = F.relu(self.fc2(x))
        x = self.fc3(x)
        if self.last is not None:
            x = self.last(x)
        return x.squeeze(1) if self.squeeze else x


def flats(districts=20):
    level, weights = torch.randn(districts), torch.randn(7) / 2

    def make(n):
        numbers, district = torch.randn(n, 7), torch.randint(0, districts, (n,))
        rent = numbers @ weights + 0.7 * level[district] + 0.4 * numbers[:, 0] * numbers[:, 1]
        return numbers, district, (rent + 0.2 * torch.randn(n)) / 1.6

    return make


def as_dict(rows):
    numbers, district, rent = (torch.stack(column) for column in zip(*rows, strict=True))
    return {"numbers": numbers, "district": district, "labels": rent}


@base
def rents_in_dicts(model=None, loss_fn=F.smooth_l1_loss, optimizer=None, lr=2e-3, **data):
    train, val = split(flats(), collate=as_dict, **data)
    model = model or RentNet()
    optimizer = optimizer(model, lr) if optimizer else torch.optim.RMSprop(model.parameters(), lr=lr)
    return Target(model, train, val, loss_fn, optimizer)


class Cross(nn.Module):
    """x0 * (W x + b) + x"""

    def __init__(self, width, std=None):
        super().__init__()
        self.linear = nn.Linear(width, width)
        if std is not None:
            nn.init.normal_(self.linear.weight, std=std)

    def forward(self, x0, x):
        return x0 * self.linear(x) + x


class DeepAndCross(nn.Module):
    def __init__(self, crosses=2, std=None, last=None):
        super().__init__()
        self.tables = nn.ModuleList([nn.Embedding(30, 4), nn.Embedding(10, 4), nn.Embedding(4, 4)])
        width = 12 + 6
        self.crosses = nn.ModuleList([Cross(width, std) for _ in range(crosses)])
        self.deep = nn.Sequential(nn.Linear(width, 48), nn.PReLU(), nn.Linear(48, 24), nn.PReLU())
        self.head, self.last = nn.Linear(width + 24, 1), last or nn.Identity()

    def forward(self, ids, numbers):
        x0 = torch.cat([table(ids[:, i]) for i, table in enumerate(self.tables)] + [numbers], dim=-1)
        x = x0
        for cross in self.crosses:
            x = cross(x0, x)
        return self.last(self.head(torch.cat([x, self.deep(x0)], dim=-1))).squeeze(-1)


@base
def clicks_by_deep_and_cross(model=None, lr=5e-3, **data):
    appeal, weights = torch.randn(30), torch.randn(6)

    def make(n):
        ids = torch.stack([torch.randint(0, k, (n,)) for k in (30, 10, 4)], 1)
        numbers = torch.randn(n, 6)
        score = 1.5 * appeal[ids[:, 0]] + numbers @ weights + (ids[:, 2] - 1.5) * numbers[:, 0]
        return ids, numbers, (score + 0.4 * torch.randn(n) > 0).float()

    model = model or DeepAndCross()
    train, test = split(make, **{"batch": 64, **data})
    return Target(model, train, test, nn.BCEWithLogitsLoss(), adamw(model, lr))


def gamma_deviance(mean, y):
    return (y / mean + mean.log()).mean()


class ClaimNet(nn.Module):
    def __init__(self, positive=torch.exp, activation=F.elu):
        super().__init__()
        self.hidden = nn.ModuleList([nn.Linear(8, 40), nn.Linear(40, 40)])
        self.out, self.positive, self.activation = nn.Linear(40, 1), positive, activation

    def forward(self, x):
        for layer in self.hidden:
            x = self.activation(layer(x))
        return self.positive(self.out(x))[:, 0]


@base
def claims_with_a_gamma_deviance(model=None, lr=5e-3, optimizer=adamw, **data):
    weights = torch.randn(8) / 2

    def make(n):
        x = torch.rand(n, 8) * 3.4 - 1.7
        mean = torch.exp(x @ weights + 0.5 * x[:, 0] * x[:, 1])
        return x, mean * torch.distributions.Gamma(4.0, 4.0).sample((n,))

    model = model or ClaimNet()
    train, test = split(make, **{"batch": 64, **data})
    return Target(model, train, test, gamma_deviance, optimizer(model, lr))


class Highway(nn.Module):
    def __init__(self, width, gated, activation):
        super().__init__()
        self.H, self.activation = nn.Linear(width, width), activation
        self.T = nn.Linear(width, width) if gated else None
        if gated:
            nn.init.constant_(self.T.bias, -1.0)

    def forward(self, x):
        h = self.activation(self.H(x))
        if self.T is None:
            return h
        t = torch.sigmoid(self.T(x))
        return t * h + (1 - t) * x


@base
def protein_families_by_a_highway_network(depth=10, gated=True, activation=torch.relu, std=None, optimizer=None):
    centers = 1.2 * torch.randn(3, 2, 20)

    def make(n):
        y, part = torch.randint(0, 3, (n,)), torch.randint(0, 2, (n,))
        return centers[y, part] + 0.8 * torch.randn(n, 20), y

    layers = [nn.Linear(20, 32), *[Highway(32, gated, activation) for _ in range(depth)], nn.Linear(32, 3)]
    if std is not None:
        for layer in layers[1:-1]:
            nn.init.normal_(layer.H.weight, std=std)
    net = nn.Sequential(*layers)
    train, test = split(make)
    optimizer = optimizer(net, 0) if optimizer else torch.optim.RMSprop(net.parameters(), lr=2e-3)
    return Target(net, train, test, nn.CrossEntropyLoss(), optimizer)


class Ranker(nn.Module):
    """Scores each document of a list on its own."""

    def __init__(self, last=None, hidden=None):
        super().__init__()
        self.mlp = hidden or nn.Sequential(nn.Linear(10, 48), nn.SiLU(), nn.Linear(48, 24), nn.SiLU(), nn.Linear(24, 1))
        self.last = last or nn.Identity()

    def forward(self, documents):
        return self.last(self.mlp(documents)).squeeze(2)


def listnet(scores, relevance):
    return -(relevance.softmax(1) * scores.log_softmax(1)).sum(1).mean()


@base
def documents_ranked_by_lists(last=None, hidden=None, **data):
    weights = torch.randn(10)

    def make(n):
        x = torch.randn(n, 8, 10)
        return x, x @ weights + 2 * torch.sin(2 * x[..., 0])

    model = Ranker(last, hidden)
    train, test = split(make, **data)
    return Target(model, train, test, listnet, torch.optim.Adam(model.parameters(), lr=5e-3))


class WeightedByUncertainty(nn.Module):
    """Two losses that a learned variance of each weighs."""

    def __init__(self):
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(2))

    def forward(self, out, amount, kind):
        losses = torch.stack([F.mse_loss(out["amount"], amount), F.cross_entropy(out["kind"], kind)])
        return ((-self.log_variance).exp() * losses + self.log_variance).sum()


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(12, 64), nn.Mish(), nn.Linear(64, 64), nn.Mish())
        self.amount, self.kind = nn.Linear(64, 1), nn.Linear(64, 3)

    def forward(self, x):
        h = self.trunk(x)
        return {"amount": self.amount(h).squeeze(-1), "kind": self.kind(h)}


@base
def tasks_weighted_by_uncertainty(with_loss=True, **data):
    weights, kinds = torch.randn(12) / 3, torch.randn(12, 3)

    def make(n):
        x = torch.randn(n, 12)
        return x, torch.tanh(x @ weights) + 0.5 * x[:, 0], (x @ kinds).argmax(1)

    model, criterion = Shared(), WeightedByUncertainty()
    parameters = [*model.parameters(), *criterion.parameters()] if with_loss else model.parameters()
    train, test = split(make, **data)
    return Target(model, train, test, criterion, torch.optim.Adam(parameters, lr=3e-3))


class Pretrained(nn.Module):
    """A backbone that has learned another task, and a new head."""

    def __init__(self, centers, frozen=()):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Linear(24, 64), nn.LayerNorm(64), nn.ReLU(), nn.Linear(64, 64), nn.LayerNorm(64), nn.ReLU()
        )
        old_head = nn.Linear(64, len(centers))
        optimizer = torch.optim.Adam([*self.backbone.parameters(), *old_head.parameters()], lr=3e-3)
        for _ in range(60):
            y = torch.randint(0, len(centers), (64,))
            loss = F.cross_entropy(old_head(self.backbone(centers[y] + torch.randn(64, 24))), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.classifier = nn.Linear(64, 3)

    def forward(self, x):
        return self.classifier(self.backbone(x))


def layerwise(model, lr, decay=0.5):
    """The deeper a layer, the smaller its rate."""
    layers = [model.classifier, *[m for m in reversed(model.backbone) if next(m.parameters(), None) is not None]]
    groups = [{"params": layer.parameters(), "lr": lr * decay**i} for i, layer in enumerate(layers)]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9)


@base
def fine_tuning_with_layerwise_rates(optimizer=layerwise, **data):
    centers = torch.randn(9, 24)

    def make(n):
        y = torch.randint(0, 9, (n,))
        return centers[y] + 0.8 * torch.randn(n, 24), y % 3

    model = Pretrained(centers)
    model.zero_grad()
    train, test = split(make, **data)
    return Target(model, train, test, nn.CrossEntropyLoss(), optimizer(model, 0.02))


# ---- healthy: images, volumes, fields ----


class SqueezeExcite(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, channels // 4, 1), nn.Conv2d(channels // 4, channels, 1)

    def forward(self, x):
        s = F.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.fc2(F.relu(self.fc1(s))))


class LeafNet(nn.Module):
    def __init__(self, norm=nn.BatchNorm2d, classes=4):
        super().__init__()
        self.conv1, self.bn1, self.se1 = nn.Conv2d(3, 16, 3, padding=1), norm(16), SqueezeExcite(16)
        self.conv2, self.bn2, self.se2 = nn.Conv2d(16, 32, 3, padding=1), norm(32), SqueezeExcite(32)
        self.drop, self.fc = nn.Dropout2d(0.1), nn.Linear(32 * 16, classes)

    def forward(self, x):
        x = F.max_pool2d(self.se1(F.relu(self.bn1(self.conv1(x)))), 2)
        x = F.max_pool2d(self.se2(F.relu(self.bn2(self.conv2(x)))), 2)
        return self.fc(self.drop(x).flatten(1))


def patterns(classes=4, size=16, noise=0.8):
    """A smooth pattern for each class, moved by a few pixels."""
    prototypes = F.interpolate(torch.randn(classes, 3, 4, 4), size=size, mode="bilinear")

    def make(n):
        y = torch.randint(0, classes, (n,))
        shifts = torch.randint(-2, 3, (n, 2)).tolist()
        x = torch.stack([prototypes[c].roll(s, (1, 2)) for c, s in zip(y.tolist(), shifts, strict=True)])
        return x + noise * torch.randn_like(x), y

    return make


@base
def leaves_by_squeeze_and_excitation(model=None, lr=2e-3, **data):
    model = model or LeafNet()
    train, test = split(patterns(), **{"n": 1024, **data})
    return Target(model, train, test, nn.CrossEntropyLoss(label_smoothing=0.05), adamw(model, lr))


class MixerBlock(nn.Module):
    def __init__(self, tokens, width, norm=nn.LayerNorm):
        super().__init__()
        self.norm1, self.norm2 = norm(width), norm(width)
        self.tokens = nn.Sequential(nn.Linear(tokens, 32), nn.GELU(), nn.Linear(32, tokens))
        self.channels = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Linear(64, width))

    def forward(self, x):
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    def __init__(self, depth=3):
        super().__init__()
        self.patches = nn.Conv2d(3, 32, 4, 4)
        self.blocks = nn.Sequential(*[MixerBlock(16, 32) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 5)

    def forward(self, x):
        x = self.patches(x).flatten(2).mT
        return self.head(self.norm(self.blocks(x)).mean(1))


@base
def satellite_tiles_by_a_mixer(model=None, noise=0.8, lr=2e-3, optimizer=None, **data):
    model = model or Mixer()
    train, test = split(patterns(5, noise=noise), **data)
    optimizer = optimizer(model, lr) if optimizer else torch.optim.NAdam(model.parameters(), lr=lr)
    return Target(model, train, test, nn.CrossEntropyLoss(), optimizer)


def volumes(size=10):
    """A ball, a rod, a plate or a corner somewhere in the noise."""

    def make(n):
        y = torch.randint(0, 4, (n,))
        x = 0.3 * torch.randn(n, 1, size, size, size)
        grid = torch.stack(torch.meshgrid(*[torch.arange(size)] * 3, indexing="ij"))
        centre = torch.randint(3, size - 3, (n, 3))
        distance = (grid - centre[:, :, None, None, None]).abs()
        ball = (distance.square().sum(1) <= 5).float()
        rod = (distance[:, 0] <= 4) & (distance[:, 1] == 0) & (distance[:, 2] <= 1)
        plate = (distance[:, 0] == 0) & (distance[:, 1] <= 3) & (distance[:, 2] <= 3)
        beam = (distance[:, 2] <= 4) & (distance[:, 1] <= 1) & (distance[:, 0] == 0)
        kinds = torch.stack([ball, rod.float(), plate.float(), beam.float()], 1)
        return x + 1.5 * kinds[torch.arange(n), y][:, None], y

    return make


@base
def volumes_through_3d_convolutions(**data):
    model = nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.InstanceNorm3d(8, affine=True), nn.ReLU(), nn.AvgPool3d(2),
        nn.Conv3d(8, 16, 3), nn.InstanceNorm3d(16, affine=True), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 27, 4),
    )  # fmt: skip
    train, val = split(volumes(), **{"n": 768, "held_out": 128, **data})
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, amsgrad=True)
    return Target(model, train, val, nn.CrossEntropyLoss(), optimizer)


class DepthNet(nn.Module):
    def __init__(self, positive=F.softplus):
        super().__init__()
        self.enc1 = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.LeakyReLU(0.1))
        self.enc2 = nn.Sequential(nn.Conv2d(16, 24, 3, stride=2, padding=1), nn.LeakyReLU(0.1))
        self.dec = nn.Sequential(nn.Conv2d(40, 16, 3, padding=1), nn.LeakyReLU(0.1), nn.Conv2d(16, 1, 1))
        self.positive = positive

    def forward(self, image):
        a = self.enc1(image)
        up = F.interpolate(self.enc2(a), scale_factor=2, mode="nearest")
        return self.positive(self.dec(torch.cat([a, up], 1)))


def scale_invariant(out, depth, eps=1e-6):
    d = torch.log(out + eps) - torch.log(depth)
    return (d**2).mean() - 0.5 * d.mean((1, 2, 3)).square().mean()


@base
def depth_maps_with_a_scale_invariant_loss(positive=F.softplus, loss_fn=scale_invariant, lr=5e-3, **data):
    mix = torch.randn(3, 1, 1)

    def make(n):
        depth = 0.5 + 3 * torch.sigmoid(F.interpolate(2 * torch.randn(n, 1, 4, 4), size=16, mode="bilinear"))
        image = mix * (1 / depth - 0.6) / 0.4 + 0.2 * torch.randn(n, 3, 16, 16)
        return image, depth

    model = DepthNet(positive)
    train, test = split(make, **{"batch": 16, "n": 512, "held_out": 128, **data})
    return Target(model, train, test, loss_fn, torch.optim.Adam(model.parameters(), lr=lr))


@base
def land_cover_with_ignored_borders(loss_fn=None, optimizer=None, **data):
    spectra = 0.9 * torch.randn(4, 4)

    def make(n):
        small = torch.randint(0, 4, (n, 1, 4, 4)).float()
        y = F.interpolate(small, size=16, mode="nearest").long()[:, 0]
        x = spectra[y].permute(0, 3, 1, 2) + torch.randn(n, 4, 16, 16)
        y[:, (0, -1)], y[:, :, (0, -1)] = 255, 255
        return x, y

    model = nn.Sequential(
        nn.Conv2d(4, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=2, dilation=2), nn.ReLU(),
        nn.Conv2d(24, 4, 1),
    )  # fmt: skip
    train, test = split(make, **{"batch": 8, "n": 384, "held_out": 64, **data})
    optimizer = optimizer(model, 0) if optimizer else torch.optim.Adam(model.parameters(), lr=5e-3)
    return Target(model, train, test, loss_fn or nn.CrossEntropyLoss(ignore_index=255), optimizer)


class Sine(nn.Module):
    def __init__(self, a, b, *, omega=8.0, first=False, sine=torch.sin):
        super().__init__()
        self.linear, self.omega, self.sine = nn.Linear(a, b), omega, sine
        bound = 1 / a if first else math.sqrt(6 / a) / omega
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x):
        return self.sine(self.omega * self.linear(x))


@base
def siren_of_a_picture(std=None, **how):
    net = nn.Sequential(Sine(2, 48, first=True, **how), Sine(48, 48, **how), Sine(48, 48, **how), nn.Linear(48, 1))
    if std is not None:
        for layer in net[:3]:
            nn.init.normal_(layer.linear.weight, std=std)
    side = torch.linspace(-1, 1, 48)
    xy = torch.cartesian_prod(side, side)
    waves, phases = 4 * torch.randn(2, 6), 6.3 * torch.rand(6)
    gray = torch.cos(xy @ waves + phases).sum(1, keepdim=True) / math.sqrt(3)
    pixels = DataLoader(TensorDataset(xy, gray), 128, shuffle=True)
    return Target(net, pixels, None, nn.MSELoss(), torch.optim.Adam(net.parameters(), lr=2e-3))


# ---- healthy: signals, sequences, text ----


class RMSNorm(nn.Module):
    def __init__(self, width, dim=-1):
        super().__init__()
        self.weight, self.dim = nn.Parameter(torch.ones(width)), dim

    def forward(self, x):
        return self.weight * x * torch.rsqrt(x.pow(2).mean(self.dim, keepdim=True) + 1e-6)


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], -1)


class RotaryBlock(nn.Module):
    def __init__(self, width=32, heads=2, diagonal=0, norm_dim=-1):
        super().__init__()
        self.heads, self.diagonal = heads, diagonal
        self.norm1, self.norm2 = RMSNorm(width, norm_dim), RMSNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.gate, self.up = nn.Linear(width, 2 * width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.down = nn.Linear(2 * width, width, bias=False)

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        half = q.shape[-1] // 2
        angles = torch.arange(t)[:, None] * 100.0 ** -(torch.arange(half) / half)
        q, k = (rotate(z, angles.cos(), angles.sin()) for z in (q, k))
        visible = torch.ones(t, t, dtype=torch.bool).tril(self.diagonal)
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~visible, -math.inf)
        x = x + self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, w))
        h = self.norm2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class RotaryLanguageModel(nn.Module):
    def __init__(self, vocabulary=16, **how):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, 32)
        self.blocks = nn.ModuleList([RotaryBlock(**how) for _ in range(2)])
        self.norm, self.lm_head = RMSNorm(32), nn.Linear(32, vocabulary, bias=False)

    def forward(self, idx):
        x = self.embed(idx)
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.norm(x))


def next_token_loss(logits, targets):
    return F.cross_entropy(logits.reshape(-1, logits.size(-1)), targets.reshape(-1))


@base
def rotary_language_model_of_a_markov_chain(lr=3e-3, **how):
    chain = torch.distributions.Dirichlet(torch.full((16,), 0.15)).sample((16,))

    def make(n):
        tokens = [torch.randint(0, 16, (n,))]
        for _ in range(16):
            tokens.append(torch.multinomial(chain[tokens[-1]], 1)[:, 0])
        sequence = torch.stack(tokens, 1)
        return sequence[:, :-1], sequence[:, 1:]

    model = RotaryLanguageModel(**how)
    train, val = split(make, n=960)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.1)
    return Target(model, train, val, next_token_loss, optimizer)


class AlibiLayer(nn.Module):
    def __init__(self, width=32, heads=4):
        super().__init__()
        self.heads, self.norm1, self.norm2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ff = nn.Sequential(nn.Linear(width, 64), nn.GELU(), nn.Dropout(0.05), nn.Linear(64, width))
        self.register_buffer("slopes", 2.0 ** -(torch.arange(heads) + 1.0))

    def forward(self, x):
        b, t, w = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4)
        distance = (torch.arange(t)[:, None] - torch.arange(t)).abs()
        bias = -self.slopes[:, None, None] * distance
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).reshape(b, t, w))
        return x + self.ff(self.norm2(x))


class MotifNet(nn.Module):
    def __init__(self, layers=2):
        super().__init__()
        self.stem = nn.Conv1d(4, 32, 5, padding=2)
        self.layers = nn.ModuleList([AlibiLayer() for _ in range(layers)])
        self.head = nn.Linear(32, 3)

    def forward(self, dna):
        x = F.gelu(self.stem(dna)).transpose(1, 2)
        for layer in self.layers:
            x = layer(x)
        return self.head(x.amax(1))


@base
def dna_motifs_with_linear_biases(**how):
    motifs = torch.randint(0, 4, (3, 6))

    def make(n):
        y = torch.randint(0, 3, (n,))
        bases = torch.randint(0, 4, (n, 24))
        starts = torch.randint(0, 18, (n, 1)) + torch.arange(6)
        bases.scatter_(1, starts, motifs[y])
        return F.one_hot(bases, 4).float().transpose(1, 2), y

    model = MotifNet(**how)
    train, test = split(make, n=1536)
    optimizer = torch.optim.RAdam(model.parameters(), lr=5e-3, betas=(0.9, 0.99))
    return Target(model, train, test, nn.CrossEntropyLoss(), optimizer)


class Sentences(Dataset):
    """Lists of word numbers, of different lengths."""

    def __init__(self, n, shortest=4, topics=3):
        self.rows = []
        for _ in range(n):
            topic, length = int(torch.randint(0, topics, ())), int(torch.randint(shortest, 13, ()))
            words = torch.randint(20, 60, (length,))
            about = torch.randperm(length)[:3]
            words[about] = 1 + topic * 6 + torch.randint(0, 6, (len(about),))
            self.rows.append((words, topic))

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


def pad(rows):
    words, topics = zip(*rows, strict=True)
    return {
        "words": nn.utils.rnn.pad_sequence(list(words), batch_first=True),
        "lengths": torch.tensor([len(w) for w in words]),
        "labels": torch.tensor(topics),
    }


class AttentiveGru(nn.Module):
    """Additive attention over the states of a GRU that reads in both directions."""

    def __init__(self, start=None):
        super().__init__()
        self.embedding = nn.Embedding(60, 24, padding_idx=0)
        self.gru = nn.GRU(24, 24, batch_first=True, bidirectional=True)
        self.key, self.query = nn.Linear(48, 32), nn.Linear(32, 1, bias=False)
        self.out, self.start = nn.Linear(48, 3), start

    def forward(self, words, lengths):
        start = None if self.start is None else self.start(2, len(words), 24)
        states, _ = self.gru(self.embedding(words), start)
        scores = self.query(torch.tanh(self.key(states))).squeeze(2)
        beyond = torch.arange(words.shape[1]) >= lengths[:, None]
        weights = scores.masked_fill(beyond, float("-inf")).softmax(dim=1)
        return self.out((weights[:, :, None] * states).sum(1))


@base
def topics_by_a_gru_with_attention(model=None, shortest=4, lr=5e-3, wrap=lambda data: data):
    train = DataLoader(wrap(Sentences(1280, shortest)), batch_size=32, shuffle=True, collate_fn=pad)
    dev = DataLoader(Sentences(256), batch_size=64, collate_fn=pad)
    model = model or AttentiveGru()
    return Target(model, train, dev, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=lr))


class NBeatsBlock(nn.Module):
    def __init__(self, activation=nn.ReLU):
        super().__init__()
        self.fc = nn.Sequential(nn.Linear(24, 64), activation(), nn.Linear(64, 64), activation())
        self.backcast, self.forecast = nn.Linear(64, 24), nn.Linear(64, 6)

    def forward(self, x):
        h = self.fc(x)
        return self.backcast(h), self.forecast(h)


class NBeats(nn.Module):
    def __init__(self, blocks=3, activation=nn.ReLU):
        super().__init__()
        self.blocks = nn.ModuleList([NBeatsBlock(activation) for _ in range(blocks)])

    def forward(self, x):
        total = 0
        for block in self.blocks:
            back, ahead = block(x)
            x, total = x - back, total + ahead
        return total


def seasons(n):
    """A wave of any phase and period, and a trend: a day before, six hours ahead."""
    t = torch.arange(30)
    period, phase = 6 + 10 * torch.rand(n, 1), 6.3 * torch.rand(n, 1)
    series = torch.sin(6.283 * t / period + phase) + torch.randn(n, 1) * (t - 15) / 15 + 0.1 * torch.randn(n, 30)
    return series[:, :24], series[:, 24:]


@base
def forecast_by_backcasts(make=seasons, *, activation=nn.ReLU, optimizer=None, model=None, **data):
    model = model or NBeats(activation=activation)
    train, val = split(make, **{"batch": 64, "n": 2048, **data})
    optimizer = optimizer(model, 0) if optimizer else torch.optim.Adam(model.parameters(), lr=2e-3)
    return Target(model, train, val, nn.L1Loss(), optimizer)


def separable(a, b, k=9):
    return nn.Sequential(
        nn.Conv1d(a, a, k, stride=2, padding=k // 2, groups=a), nn.Conv1d(a, b, 1), nn.GroupNorm(4, b), nn.Hardswish()
    )  # fmt: skip


def keywords(length=128):
    """Chirps: rising, falling, steady low, steady high."""
    t = torch.arange(length) / length
    start, end = torch.tensor([6.0, 18.0, 8.0, 16.0]), torch.tensor([18.0, 6.0, 8.0, 16.0])

    def make(n):
        y = torch.randint(0, 4, (n,))
        detune = 0.9 + 0.2 * torch.rand(n, 1)
        f0, f1 = start[y, None] * detune, end[y, None] * detune
        phase = 6.283 * (f0 * t + (f1 - f0) * t**2 / 2 + torch.rand(n, 1))
        return torch.sin(phase)[:, None] * 1.2 + 0.4 * torch.randn(n, 1, length), y

    return make


@base
def keywords_by_separable_convolutions(middle=None, optimizer=None, **data):
    model = nn.Sequential(
        nn.Conv1d(1, 16, 11, padding=5), nn.GroupNorm(4, 16), nn.Hardswish(),
        *(middle or [separable(16, 32), separable(32, 32)]), nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(128, 4),
    )  # fmt: skip
    train, test = split(keywords(), **{"n": 1024, **data})
    optimizer = optimizer(model, 0) if optimizer else nesterov(0.05)(model, 0)
    torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2000)
    return Target(model, train, test, nn.CrossEntropyLoss(), optimizer)


class Loop(nn.Module):
    """A cell, step by step."""

    def __init__(self, cell=None, between=lambda h: h):
        super().__init__()
        self.cell, self.out = cell or nn.GRUCell(4, 32), nn.Linear(32, 1)
        self.between = between

    def forward(self, x):
        h = torch.zeros(x.shape[0], 32)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], self.between(h))
        return self.out(h).squeeze(-1)


class HandmadeCell(nn.Module):
    def __init__(self, draw=lambda *size: torch.randn(*size) / 6):
        super().__init__()
        self.w_in, self.w_state = nn.Parameter(draw(4, 32)), nn.Parameter(draw(32, 32))
        self.bias = nn.Parameter(torch.zeros(32))

    def forward(self, x, h):
        return torch.tanh(x @ self.w_in + h @ self.w_state + self.bias)


@base
def wear_of_a_bearing_by_a_loop_of_cells(model=None, **data):
    """How much the first channel shook in the first half of the record, less what the second did later."""

    def make(n):
        x = torch.randn(n, 12, 4)
        return x, (x[:, :6, 0].sum(1) - x[:, 6:, 1].sum(1)) / math.sqrt(12)

    model = model or Loop()
    train, test = split(make, **data)
    return Target(model, train, test, nn.MSELoss(), torch.optim.Adam(model.parameters(), lr=5e-3))


# ---- healthy: points, graphs, pairs, decisions ----


class PointNet(nn.Module):
    def __init__(self, centre=None, last=None, norm=nn.BatchNorm1d):
        super().__init__()
        self.mlp1, self.bn1 = nn.Conv1d(3, 32, 1), norm(32)
        self.mlp2, self.bn2 = nn.Conv1d(32, 64, 1), norm(64)
        self.head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4))
        self.centre, self.last = centre or (lambda x: x), last or nn.Identity()

    def forward(self, points):
        x = self.centre(points).transpose(1, 2)
        x = F.relu(self.bn1(self.mlp1(x)))
        x = F.relu(self.bn2(self.mlp2(x)))
        return self.last(self.head(x.max(dim=2).values))


def clouds(points=48):
    """Points on a sphere, in a box, on a cylinder or on a saddle, turned about the vertical."""

    def make(n):
        y = torch.randint(0, 4, (n,))
        sphere = 1.4 * F.normalize(torch.randn(n, points, 3), dim=2)
        box = 2.4 * torch.rand(n, points, 3) - 1.2
        angle = 6.283 * torch.rand(n, points)
        cylinder = torch.stack([0.7 * angle.cos(), 0.7 * angle.sin(), 3.6 * torch.rand(n, points) - 1.8], 2)
        plane = 3 * torch.rand(n, points, 2) - 1.5
        saddle = torch.cat([plane, plane[..., :1] * plane[..., 1:] * 0.7], 2)
        x = torch.stack([sphere, box, cylinder, saddle], 1)[torch.arange(n), y]
        turn = 6.283 * torch.rand(n, 1)
        c, s = turn.cos(), turn.sin()
        x = torch.stack([c * x[..., 0] - s * x[..., 1], s * x[..., 0] + c * x[..., 1], x[..., 2]], 2)
        return x + 0.05 * torch.randn_like(x), y

    return make


@base
def point_clouds_by_a_shared_mlp(model=None, **data):
    model = model or PointNet()
    train, test = split(clouds(), **{"n": 1024, **data})
    return Target(model, train, test, nn.CrossEntropyLoss(), adamw(model, 5e-3))


class GraphAttention(nn.Module):
    def __init__(self, a, b):
        super().__init__()
        self.w, self.left, self.right = nn.Linear(a, b, bias=False), nn.Linear(b, 1), nn.Linear(b, 1, bias=False)
        self.own = nn.Linear(a, b)

    def forward(self, x, adjacency):
        h = self.w(x)
        e = F.leaky_relu(self.left(h) + self.right(h).transpose(1, 2), 0.2)
        attention = e.masked_fill(adjacency == 0, -1e9).softmax(-1)
        return F.elu(attention @ h + self.own(x))


class MoleculeNet(nn.Module):
    def __init__(self, prepare=lambda x, adjacency: (x, adjacency)):
        super().__init__()
        self.gat1, self.gat2 = GraphAttention(6, 32), GraphAttention(32, 32)
        self.readout, self.prepare = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1)), prepare

    def forward(self, x, adjacency):
        x, adjacency = self.prepare(x, adjacency)
        h = self.gat2(self.gat1(x, adjacency), adjacency)
        return self.readout(h.mean(1))


@base
def solubility_by_graph_attention(model=None, lr=5e-3, loss_fn=F.mse_loss, optimizer=adamw, **data):
    own, across = torch.randn(6), torch.randn(6)

    def make(n):
        x = torch.randn(n, 10, 6)
        edges = (torch.rand(n, 10, 10) < 0.15).float()
        adjacency = ((edges + edges.mT + torch.eye(10)) > 0).float()
        around = adjacency @ x / adjacency.sum(2, keepdim=True)
        y = (torch.tanh(x @ own) + torch.relu(around @ across)).mean(1, keepdim=True)
        return x, adjacency, (y - 0.55) / 0.32

    model = model or MoleculeNet()
    train, test = split(make, **data)
    return Target(model, train, test, loss_fn, optimizer(model, lr))


class TwoTowers(nn.Module):
    def __init__(self, scale=2.3):
        super().__init__()
        self.image = nn.Sequential(nn.Linear(30, 64), nn.GELU(), nn.Linear(64, 16))
        self.words = nn.EmbeddingBag(20, 32, mode="mean")
        self.text = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 16))
        self.logit_scale = nn.Parameter(torch.tensor(scale))  # its logarithm

    def forward(self, pixels, caption):
        a = F.normalize(self.image(pixels), dim=-1)
        b = F.normalize(self.text(self.words(caption)), dim=-1)
        return a, b, self.logit_scale.exp()


def matches(model, batch):
    a, b, scale = model(*batch)
    logits, labels = scale * a @ b.T, torch.arange(len(a))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


@base
def pictures_and_captions_with_a_temperature(**how):
    looks = torch.randn(5, 4, 30)

    def make(n):
        attributes = torch.randint(0, 4, (n, 5))
        pixels = sum(looks[i, attributes[:, i]] for i in range(5)) / 2 + 0.3 * torch.randn(n, 30)
        return pixels, attributes + 4 * torch.arange(5)

    model = TwoTowers(**how)
    train, test = split(make, batch=64, n=1536)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return Target(model, train, test, optimizer=optimizer, training_step=matches)


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh())
        self.policy, self.value = nn.Linear(64, 3), nn.Linear(64, 1)

    def forward(self, state):
        h = self.body(state)
        return self.policy(h), self.value(h)


def weighted_imitation(model, batch):
    state, action, ret = batch
    logits, value = model(state)
    value = value.squeeze(-1)
    weight = (ret - value.detach()).clamp(max=1.5).exp()
    chosen = Categorical(logits=logits).log_prob(action)
    return -(weight * chosen).mean() + F.mse_loss(value, ret)


Categorical = torch.distributions.Categorical


@base
def policy_weighted_by_advantages(step=weighted_imitation, lr=3e-3, **data):
    goals, worth = torch.randn(6, 3), torch.randn(6) / 2

    def make(n):
        state, action = torch.randn(n, 6), torch.randint(0, 3, (n,))
        good = (state @ goals).argmax(1) == action
        ret = torch.tanh(state @ worth) + 2 * good - 0.6 + 0.2 * torch.randn(n)
        return state, action, ret

    model = ActorCritic()
    train, test = split(make, **data)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    return Target(model, train, test, optimizer=optimizer, training_step=step)


# ---- broken: gradients and signals ----


@fault(protein_families_by_a_highway_network, "vanishing-gradient")
def proteins_through_sigmoids_without_gates():
    return protein_families_by_a_highway_network(8, gated=False, activation=torch.sigmoid, optimizer=nesterov(0.1))


@fault(protein_families_by_a_highway_network, "exploding-gradient", "exploding-activation", "bad-initialization")
def proteins_through_wide_weights():
    return protein_families_by_a_highway_network(10, gated=False, std=0.6, optimizer=nesterov(1e-2))


@fault(clicks_by_deep_and_cross, "exploding-activation", "bad-initialization", "initial-loss", "exploding-gradient")
def clicks_through_six_crosses_of_randn():
    """The features are multiplied by themselves six times, with weights of one."""
    return clicks_by_deep_and_cross(DeepAndCross(crosses=6, std=1.0))


@fault(policy_weighted_by_advantages, "no-gradient")
def critic_that_is_detached_in_its_own_loss():
    """The detach of the advantage has slipped to where the value is taken out of the output."""

    def step(model, batch):
        state, action, ret = batch
        logits, value = model(state)
        value = value.squeeze(-1).detach()
        weight = (ret - value).clamp(max=1.5).exp()
        return -(weight * Categorical(logits=logits).log_prob(action)).mean() + F.mse_loss(value, ret)

    return policy_weighted_by_advantages(step)


@fault(rents_in_dicts, "no-gradient")
def rents_that_are_rounded_in_forward():
    """To the nearest ten, as on the page; the gradient of round is zero."""
    head = nn.Module()
    head.forward = lambda x: (x * 10).round() / 10
    return rents_in_dicts(RentNet(last=head))


@fault(claims_with_a_gamma_deviance, "dead-units", "no-gradient", "bad-initialization")
def claims_through_units_that_start_below_zero():
    """Features of 0 to 1 and weights drawn from -0.5 to 0: no unit ever fires."""
    model = ClaimNet(activation=F.relu)
    for layer in model.hidden:
        nn.init.uniform_(layer.weight, -0.5, 0.0)
        nn.init.zeros_(layer.bias)
    nn.init.constant_(model.hidden[0].bias, -0.1)
    return claims_with_a_gamma_deviance(model, change=lambda x, y: ((x + 1.7) / 3.4, y))


@fault(wear_of_a_bearing_by_a_loop_of_cells, "saturated-activation", "bad-initialization")
def bearing_by_a_cell_of_randn():
    return wear_of_a_bearing_by_a_loop_of_cells(Loop(HandmadeCell(lambda *size: 3 * torch.randn(*size))))


@fault(topics_by_a_gru_with_attention, "non-finite")
def topics_of_texts_without_words():
    """Texts that the tokenizer left empty: all their positions are masked, and a softmax of nothing is NaN."""
    return topics_by_a_gru_with_attention(wrap=EmptyNow)


class EmptyNow(Dataset):
    def __init__(self, sentences):
        self.sentences = sentences

    def __len__(self):
        return len(self.sentences)

    def __getitem__(self, i):
        words, topic = self.sentences[i]
        return (words[:0] if i % 25 == 0 else words), topic


@fault(depth_maps_with_a_scale_invariant_loss, "non-finite", "wrong-output-activation")
def depth_whose_logarithm_is_taken_of_zero():
    """A ReLU makes depths of exactly zero, and the paper's formula has no epsilon."""
    return depth_maps_with_a_scale_invariant_loss(F.relu, lambda out, depth: scale_invariant(out, depth, eps=0.0))


@fault(wear_of_a_bearing_by_a_loop_of_cells, "vanishing-through-time", "vanishing-gradient", "no-gradient")
def bearing_whose_state_is_detached_each_step():
    """Against the error that asks for retain_graph."""
    return wear_of_a_bearing_by_a_loop_of_cells(Loop(between=lambda h: h.detach()))


@fault(policy_weighted_by_advantages, "noisy-gradient", "learning-rate-too-high")
def policy_from_one_move_at_a_time():
    return policy_weighted_by_advantages(batch=1, lr=0.03)


# ---- broken: optimisation ----


@fault(tasks_weighted_by_uncertainty, "not-optimized")
def uncertainties_that_the_optimizer_lacks():
    return tasks_weighted_by_uncertainty(with_loss=False)


@fault(fine_tuning_with_layerwise_rates, "parameter-unchanged", "learning-rate-too-low")
def rates_that_decay_by_a_millionth_per_layer():
    return fine_tuning_with_layerwise_rates(lambda model, lr: layerwise(model, lr, decay=1e-6))


@fault(rotary_language_model_of_a_markov_chain, "learning-rate-too-high")
def rotary_model_at_one():
    return rotary_language_model_of_a_markov_chain(lr=1.0)


@fault(forecast_by_backcasts, "learning-rate-too-high")
def forecast_with_rmsprop_at_three_tenths():
    return forecast_by_backcasts(optimizer=lambda m, lr: torch.optim.RMSprop(m.parameters(), lr=0.3))


@fault(satellite_tiles_by_a_mixer, "learning-rate-too-low")
def tiles_with_adadelta_at_a_thousandth():
    """Its own default is 1.0; this is Adam's."""
    return satellite_tiles_by_a_mixer(optimizer=lambda m, lr: torch.optim.Adadelta(m.parameters(), lr=1e-3))


@fault(land_cover_with_ignored_borders, "oscillating-loss", "learning-rate-too-high")
def land_cover_with_a_momentum_of_99_hundredths():
    return land_cover_with_ignored_borders(optimizer=plain_momentum(0.3, 0.99))


@fault(land_cover_with_ignored_borders, "weight-decay-dominates")
def land_cover_with_a_decay_of_one_in_adam():
    """AdamW's habit of large decays in Adam, whose decay goes through the moments."""
    return land_cover_with_ignored_borders(
        optimizer=lambda m, _: torch.optim.Adam(m.parameters(), lr=5e-3, weight_decay=1.0)
    )


@fault(solubility_by_graph_attention, "sum-reduction", "learning-rate-too-high")
def solubility_with_the_squared_norm_of_the_error():
    return solubility_by_graph_attention(
        loss_fn=lambda out, y: torch.norm(out - y) ** 2, optimizer=plain_momentum(0.05, 0.0)
    )


# ---- broken: first weights ----


@fault(pictures_and_captions_with_a_temperature, "initial-loss", "bad-initialization")
def temperature_without_its_logarithm():
    """A scale of 10 where its logarithm belongs: the cosines are multiplied by exp(10)."""
    return pictures_and_captions_with_a_temperature(scale=10.0)


@fault(documents_ranked_by_lists, "symmetric-initialization", "no-gradient", "bad-initialization")
def documents_ranked_from_zeros():
    hidden = nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 1))
    for parameter in hidden.parameters():
        nn.init.zeros_(parameter)
    return documents_ranked_by_lists(hidden=hidden)


@fault(siren_of_a_picture, "bad-initialization", "exploding-gradient")
def siren_with_standard_normal_weights():
    return siren_of_a_picture(std=1.0)


# ---- broken: the model and its loss ----


@fault(solubility_by_graph_attention, "unregistered-module")
def encoder_that_is_kept_in_a_closure():
    """The features go through a layer that a lambda holds."""
    encode = nn.Sequential(nn.Linear(6, 6), nn.Tanh())
    return solubility_by_graph_attention(MoleculeNet(lambda x, adjacency: (encode(x), adjacency)))


@fault(point_clouds_by_a_shared_mlp, "redundant-softmax")
def point_clouds_with_a_softmax_at_the_end():
    return point_clouds_by_a_shared_mlp(PointNet(last=nn.Softmax(dim=1)))


@fault(forecast_by_backcasts, "wrong-output-activation")
def forecast_through_a_relu():
    """Half of what is to be foreseen lies below zero."""

    class Net(NBeats):
        def forward(self, x):
            return F.relu(super().forward(x))

    return forecast_by_backcasts(model=Net())


@fault(policy_weighted_by_advantages, "loss-broadcast")
def advantages_of_all_for_all():
    """The value keeps its column, so every move is weighed by the returns of all."""

    def step(model, batch):
        state, action, ret = batch
        logits, value = model(state)
        weight = (ret - value.detach()).clamp(max=1.5).exp()
        return -(weight * Categorical(logits=logits).log_prob(action)).mean() + ((value - ret) ** 2).mean()

    return policy_weighted_by_advantages(step)


@fault(point_clouds_by_a_shared_mlp, "batch-leakage")
def point_clouds_centred_on_all_of_them():
    """The mean is meant over the points of a cloud, and is taken over the clouds too."""
    return point_clouds_by_a_shared_mlp(PointNet(lambda points: points - points.mean(dim=(0, 1))))


@fault(rotary_language_model_of_a_markov_chain, "causal-leakage")
def rotary_model_that_sees_one_ahead():
    return rotary_language_model_of_a_markov_chain(diagonal=1)


@fault(rotary_language_model_of_a_markov_chain, "causal-leakage")
def rotary_model_whose_norm_runs_over_time():
    return rotary_language_model_of_a_markov_chain(norm_dim=1)


@fault(documents_ranked_by_lists, "input-ignored", "no-gradient", "wrong-output-activation")
def documents_with_a_softmax_over_their_only_score():
    return documents_ranked_by_lists(last=nn.Softmax(dim=2))


@fault(forecast_by_backcasts, "no-nonlinearity")
def forecast_by_blocks_without_activations():
    return forecast_by_backcasts(activation=nn.Identity)


# ---- broken: data ----


@fault(point_clouds_by_a_shared_mlp, "unnormalized-input")
def point_clouds_in_map_coordinates():
    """Metres east and north, as a surveyor's scanner gives them."""
    place = torch.tensor([4500.0, 57000.0, 120.0])
    return point_clouds_by_a_shared_mlp(PointNet(norm=nn.Identity), change=lambda x, y: (x + place, y))


@fault(wear_of_a_bearing_by_a_loop_of_cells, "unnormalized-input", "saturated-activation")
def bearing_in_counts_of_the_converter():
    return wear_of_a_bearing_by_a_loop_of_cells(change=lambda x, y: (x * 900 + 2048, y))


@fault(solubility_by_graph_attention, "unnormalized-target")
def energies_in_joules_per_mole():
    return solubility_by_graph_attention(change=lambda x, a, y: (x, a, y * 30000 - 200000))


@fault(forecast_by_backcasts, "non-finite-input")
def series_with_missing_hours():
    def gaps(x, y):
        return torch.where(torch.rand_like(x) < 0.001, torch.nan, x), y

    return forecast_by_backcasts(change=gaps)


@fault(steel_plates_with_class_weights, "class-imbalance")
def plates_of_which_two_in_a_hundred_are_scratched():
    """One defect at a time in 2 % of the plates, and the weights were left out."""
    shares = torch.tensor([0.96, 0.02, 0.02])
    return steel_plates_with_class_weights(shares, apart=0.45, weight=None, n=2560, held_out=2000)


@fault(volumes_through_3d_convolutions, "unshuffled-data")
def volumes_read_folder_by_folder():
    def sort(x, y):
        order = y.argsort(stable=True)
        return x[order], y[order]

    return volumes_through_3d_convolutions(change=sort, shuffle=False)


@fault(claims_with_a_gamma_deviance, "duplicate-batches")
def claims_of_the_first_batch_again_and_again():
    """next(iter(loader)) in the loop, from a loader that does not shuffle."""
    target = claims_with_a_gamma_deviance(shuffle=False)
    target.train_data = [next(iter(target.train_data)) for _ in range(20)]
    return target


@fault(forecast_by_backcasts, "uninformative-labels")
def returns_of_a_share():
    """What is to be foreseen is as random as what went before."""
    return forecast_by_backcasts(lambda n: (torch.randn(n, 24), torch.randn(n, 6)))


@fault(land_cover_with_ignored_borders, "invalid-labels")
def borders_that_the_loss_does_not_ignore():
    return land_cover_with_ignored_borders(nn.CrossEntropyLoss())


@fault(clicks_by_deep_and_cross, "invalid-labels")
def clicks_of_one_and_two():
    return clicks_by_deep_and_cross(change=lambda ids, numbers, y: (ids, numbers, y + 1))


# ---- broken: evaluation and numerics ----


@fault(keywords_by_separable_convolutions, "eval-accuracy")
def test_recordings_of_half_the_sample_rate():
    def slower(x, y):
        return F.interpolate(x, scale_factor=0.5, mode="linear").repeat(1, 1, 2), y

    return keywords_by_separable_convolutions(change_test=slower)


@fault(topics_by_a_gru_with_attention, "eval-nondeterministic")
def gru_that_starts_at_random():
    return topics_by_a_gru_with_attention(AttentiveGru(start=torch.randn))


@fault(leaves_by_squeeze_and_excitation, "batch-leakage", "eval-mode-ignored")
def leaves_normalised_without_running_statistics():
    return leaves_by_squeeze_and_excitation(LeafNet(lambda width: nn.BatchNorm2d(width, track_running_stats=False)))


class OwnNorm(nn.Module):
    """Batch normalisation written by hand, of which the line that moves the running statistics is missing."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x):
        mean, var = self.running_mean, self.running_var
        if self.training:
            mean, var = x.mean(0), x.var(0, unbiased=False)
        return self.weight * (x - mean) * torch.rsqrt(var + 1e-5) + self.bias


def as_measured(x, y):
    return x * 3 + 10, y


@fault(steel_plates_with_class_weights, "train-eval-gap", "eval-accuracy")
def plates_by_a_norm_of_ones_own():
    target = steel_plates_with_class_weights(change=as_measured)
    target.model[1] = OwnNorm(64)
    target.optimizer = torch.optim.Adagrad(target.model.parameters(), lr=0.05)
    return target


@fault(leaves_by_squeeze_and_excitation, "eval-mode-ignored", "eval-nondeterministic")
def leaves_whose_eval_is_their_own():
    """An eval() of one's own, for the figures, hides the one of the module."""

    class Net(LeafNet):
        def eval(self):
            self.figures = {}
            return self

    return leaves_by_squeeze_and_excitation(Net())


@fault(satellite_tiles_by_a_mixer, "overfitting")
def tiles_of_one_village():
    return satellite_tiles_by_a_mixer(noise=3.0, n=48, batch=24, lr=5e-3)


@fault(satellite_tiles_by_a_mixer, "cannot-fit-one-batch", "wrong-output-activation")
def tiles_by_cosines_without_a_scale():
    """The logits are cosines: a softmax of them cannot come near certainty."""

    class Cosines(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, 32))

        def forward(self, x):
            return F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))

    model = Mixer()
    model.head = Cosines()
    return satellite_tiles_by_a_mixer(model)


class WrongSine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return -grad * x.cos()


@fault(siren_of_a_picture, "wrong-gradient")
def siren_whose_cosine_has_a_minus():
    return siren_of_a_picture(sine=WrongSine.apply)


@fault(fine_tuning_with_layerwise_rates, "low-precision", "non-finite")
def fine_tuning_by_adam_in_half_precision():
    """model.half() and Adam: its epsilon and the squares of small gradients are zero in float16."""

    class Half(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model.half()

        def forward(self, x):
            return self.model(x.half()).float()

    target = fine_tuning_with_layerwise_rates()
    target.model = Half(target.model)
    target.optimizer = torch.optim.Adam(target.model.parameters(), lr=2e-3)
    return target
