"""Healthy training programs of many kinds, as people write them. Each must be silent, whatever the seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit.target import Target

Base = Callable[[], Target]
BASES: dict[str, Base] = {}


def base(make: Base) -> Base:
    BASES[make.__name__] = make
    return make


def loaders(make, train=1536, test=512, batch=64):
    return DataLoader(TensorDataset(*make(train)), batch, shuffle=True), DataLoader(TensorDataset(*make(test)), 128)


def clusters(classes=4, features=20):
    centers = torch.randn(classes, features) * 2

    def make(n):
        y = torch.randint(0, classes, (n,))
        return centers[y] + torch.randn(n, features), y

    return make


def images(classes=4, size=16, channels=1):
    templates = F.avg_pool2d(torch.randn(classes, channels, size, size), 3, 1, 1) * 3

    def make(n):
        y = torch.randint(0, classes, (n,))
        return templates[y] + 0.7 * torch.randn(n, channels, size, size), y

    return make


def needle_tokens(classes=4, vocabulary=40, length=20):
    def make(n):
        x, y = torch.randint(classes, vocabulary, (n, length)), torch.randint(0, classes, (n,))
        for _ in range(2):
            x[torch.arange(n), torch.randint(0, length, (n,))] = y
        return x, y

    return make


def series(length=20):
    """The class is the frequency of a noisy sine."""

    def make(n):
        y = torch.randint(0, 3, (n,))
        t = torch.arange(length) / length * 2 * math.pi
        phase = torch.rand(n, 1) * 2 * math.pi
        return (torch.sin((y[:, None] + 1) * t + phase) + 0.1 * torch.randn(n, length))[..., None], y

    return make


def smooth_function(features=10, outputs=1):
    weights = torch.randn(features, outputs, 3)

    def make(n):
        x = torch.randn(n, features)
        return x, torch.tanh(torch.einsum("nf,fok->nok", x, weights) / 2).sum(-1)

    return make


def changed(make, change):
    """The same data with `change(x, y)` in its place."""
    return lambda n: change(*make(n))


def classification(model, make, optimizer=None, loss_fn=None):
    train, test = loaders(make)
    optimizer = optimizer or torch.optim.Adam(model.parameters(), lr=1e-3)
    return Target(model, train, test, loss_fn or nn.CrossEntropyLoss(), optimizer)


def mlp(sizes, activation=nn.ReLU, norm=False):
    layers = []
    for a, b in pairwise(sizes[:-1]):
        layers += [nn.Linear(a, b), *([nn.BatchNorm1d(b)] if norm else []), activation()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


@base
def relu_mlp():
    model = mlp([20, 64, 64, 4])
    return classification(model, clusters(), torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))


@base
def deep_he_mlp():
    model = mlp([20, *[64] * 16, 4])
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return classification(model, clusters(), torch.optim.Adam(model.parameters(), lr=5e-4))


@base
def deep_batchnorm_sigmoid_mlp():
    model = mlp([20, *[64] * 9, 4], nn.Sigmoid, norm=True)
    return classification(model, clusters(), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


@base
def selu_mlp():
    model = mlp([20, *[64] * 8, 4], nn.SELU)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
            nn.init.zeros_(module.bias)
    return classification(model, clusters())


@base
def small_tanh_classifier():
    return classification(mlp([20, 32, 4], nn.Tanh), clusters())


class ResidualBlock(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x):
        return x + self.down(F.gelu(self.up(self.norm(x))))


@base
def residual_mlp_with_zero_branches():
    model = nn.Sequential(nn.Linear(20, 48), *[ResidualBlock(48) for _ in range(8)], nn.Linear(48, 4))
    return classification(model, clusters())


@base
def cnn():
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(128, 4),
    )  # fmt: skip
    return classification(model, images())


@base
def plain_cnn_with_functional_relu():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.c1, self.c2 = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3)
            self.f1, self.f2 = nn.Linear(128, 64), nn.Linear(64, 5)

        def forward(self, x):
            x = F.max_pool2d(F.relu(self.c1(x)), 2)
            x = F.max_pool2d(F.relu(self.c2(x)), 2)
            return self.f2(F.dropout(F.relu(self.f1(x.flatten(1))), 0.5, self.training))

    return classification(Net(), images(5, 14, 3))


@base
def lstm():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(1, 32, 2, batch_first=True), nn.Linear(32, 3)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    model = Net()
    return classification(model, series(), torch.optim.Adam(model.parameters(), lr=0.01))


@base
def gru():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.rnn = nn.Embedding(40, 16), nn.GRU(16, 32, batch_first=True, bidirectional=True)
            self.head = nn.Linear(64, 4)

        def forward(self, x):
            return self.head(self.rnn(self.embed(x))[0].amax(1))

    model = Net()
    return classification(model, needle_tokens(), torch.optim.Adam(model.parameters(), lr=3e-3))


@base
def encoder():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.position = nn.Embedding(40, 32), nn.Parameter(torch.randn(20, 32) * 0.02)
            layer = nn.TransformerEncoderLayer(32, 4, 64, 0.1, batch_first=True)
            self.body, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(32, 4)

        def forward(self, x):
            return self.head(self.body(self.embed(x) + self.position).mean(1))

    model = Net()
    return classification(model, needle_tokens(), torch.optim.AdamW(model.parameters(), lr=2e-3))


@base
def causal_language_model():
    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.n1, self.n2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

        def forward(self, x):
            q, k, v = self.qkv(self.n1(x)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            x = x + self.out(a)
            return x + self.mlp(self.n2(x))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.position = nn.Embedding(30, 48), nn.Embedding(16, 48)
            self.blocks, self.norm = nn.ModuleList(Block(48) for _ in range(3)), nn.LayerNorm(48)
            self.head = nn.Linear(48, 30, bias=False)
            nn.init.normal_(self.embed.weight, std=0.02)
            self.head.weight = self.embed.weight

        def forward(self, x):
            h = self.embed(x) + self.position(torch.arange(x.shape[1], device=x.device))
            for block in self.blocks:
                h = block(h)
            return self.head(self.norm(h))

    def make(n):
        step = torch.randint(1, 4, (n, 1))
        x = (torch.randint(0, 30, (n, 1)) + step * torch.arange(17)) % 30
        return x[:, :-1], x[:, 1:]

    model = Net()
    return classification(
        model, make, torch.optim.AdamW(model.parameters(), lr=1e-3),
        lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten()),
    )  # fmt: skip


@base
def autoencoder():
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 12), nn.Linear(12, 64), nn.ReLU(),
        nn.Linear(64, 256), nn.Unflatten(1, (1, 16, 16)),
    )  # fmt: skip
    make = images()
    data = make(1024)[0]
    train = DataLoader(TensorDataset(data, data), 64, shuffle=True)
    return Target(model, train, None, nn.MSELoss(), torch.optim.Adam(model.parameters(), lr=2e-3))


@base
def variational_autoencoder():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = nn.Sequential(nn.Flatten(), nn.Linear(256, 64), nn.ReLU())
            self.mean, self.log_variance = nn.Linear(64, 8), nn.Linear(64, 8)
            self.decode = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 256))

        def forward(self, x):
            h = self.encode(x)
            mean, log_variance = self.mean(h), self.log_variance(h)
            z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
            return self.decode(z), mean, log_variance

    def loss_fn(output, x):
        reconstruction, mean, log_variance = output
        kl = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1).mean()
        return F.mse_loss(reconstruction, x.flatten(1), reduction="sum") / len(x) + kl

    model, data = Net(), images()(1024)[0]
    train = DataLoader(TensorDataset(data, data), 64, shuffle=True)
    return Target(model, train, None, loss_fn, torch.optim.Adam(model.parameters(), lr=1e-3))


@base
def regression():
    model = mlp([10, 64, 64, 1], nn.Tanh)
    return classification(model, smooth_function(), torch.optim.Adam(model.parameters(), lr=3e-3), nn.MSELoss())


@base
def regression_of_one_number():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp([10, 64, 64, 1])

        def forward(self, x):
            return self.net(x).squeeze(-1)

    model, make = Net(), smooth_function()
    return classification(
        model, changed(make, lambda x, y: (x, y[:, 0])), torch.optim.Adam(model.parameters(), lr=3e-3),
        lambda out, y: ((out - y) ** 2).mean(),
    )  # fmt: skip


@base
def binary_imbalanced():
    direction = torch.randn(20)

    def make(n):
        x = torch.randn(n, 20)
        return x, (x @ direction > 4.5).float()[:, None]

    model = mlp([20, 64, 1])
    return classification(model, make, torch.optim.Adam(model.parameters(), lr=5e-3), nn.BCEWithLogitsLoss())


@base
def binary_with_a_sigmoid_output():
    direction = torch.randn(20)

    def make(n):
        x = torch.randn(n, 20)
        return x, (x @ direction > 0).float()[:, None]

    model = nn.Sequential(*mlp([20, 64, 1]), nn.Sigmoid())
    return classification(model, make, torch.optim.Adam(model.parameters(), lr=5e-3), nn.BCELoss())


@base
def multi_label():
    directions = torch.randn(20, 6)

    def make(n):
        x = torch.randn(n, 20)
        return x, (x @ directions > 1).float()

    return classification(mlp([20, 64, 6]), make, None, nn.BCEWithLogitsLoss())


@base
def segmentation():
    def make(n):
        x = torch.randn(n, 3, 12, 12)
        return x, (F.avg_pool2d(x, 3, 1, 1).sum(1) > 0.3).long()

    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.SiLU(), nn.Conv2d(16, 16, 3, padding=1), nn.SiLU(),
        nn.Conv2d(16, 2, 1),
    )  # fmt: skip
    return classification(model, make)


@base
def low_rank_adapters():
    class LoRA(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer.requires_grad_(False)
            self.a = nn.Parameter(torch.randn(4, layer.in_features) * 0.1)
            self.b = nn.Parameter(torch.zeros(layer.out_features, 4))

        def forward(self, x):
            return self.layer(x) + 2 * x @ self.a.T @ self.b.T

    model = nn.Sequential(
        LoRA(nn.Linear(20, 64)), nn.ReLU(), LoRA(nn.Linear(64, 64)), nn.ReLU(), LoRA(nn.Linear(64, 4))
    )
    trainable = [p for p in model.parameters() if p.requires_grad]
    return classification(model, clusters(), torch.optim.AdamW(trainable, lr=5e-3))


@base
def layer_scale():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.linear = nn.LayerNorm(48), nn.Linear(48, 48)
            self.scale = nn.Parameter(torch.full((48,), 1e-6))

        def forward(self, x):
            return x + self.scale * F.gelu(self.linear(self.norm(x)))

    model = nn.Sequential(nn.Linear(20, 48), *[Block() for _ in range(6)], nn.LayerNorm(48), nn.Linear(48, 4))
    return classification(model, clusters())


@base
def zero_initialised_head():
    model = mlp([20, 64, 64, 4])
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    return classification(model, clusters(), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


@base
def mixture_of_experts():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.head = nn.Linear(20, 12), nn.Linear(32, 4)
            self.experts = nn.ModuleList(nn.Sequential(nn.Linear(20, 32), nn.ReLU()) for _ in range(12))

        def forward(self, x):
            weight, chosen = self.gate(x).softmax(-1).max(-1)
            out = x.new_zeros(len(x), 32)
            for index, expert in enumerate(self.experts):
                rows = (chosen == index).nonzero()[:, 0]
                if len(rows):
                    out = out.index_add(0, rows, expert(x[rows]) * weight[rows, None])
            return self.head(out)

    model = Net()
    return classification(model, clusters(), torch.optim.Adam(model.parameters(), lr=3e-3))


@base
def sparse_embedding_bag():
    model = nn.Sequential(nn.EmbeddingBag(40, 32, sparse=True), nn.Linear(32, 4))
    return classification(model, needle_tokens(), torch.optim.SGD(model.parameters(), lr=1.0))


@base
def frozen_backbone():
    model = mlp([20, 64, 64, 64, 4])
    model[:4].requires_grad_(False)
    trainable = [p for p in model.parameters() if p.requires_grad]
    return classification(model, clusters(), torch.optim.Adam(trainable, lr=3e-3))


@base
def metric_learning():
    def triplets(z, y):
        z = F.normalize(z, dim=1)
        similarity = z @ z.T / 0.2
        same = (y[:, None] == y[None]).float() - torch.eye(len(y))
        off = similarity - 1e9 * torch.eye(len(y))
        return -(same * off.log_softmax(1)).sum() / same.sum().clamp_min(1)

    return classification(mlp([20, 64, 16]), clusters(), None, triplets)


@base
def physics_informed():
    model = mlp([1, 32, 32, 1], nn.Tanh)

    def residual(_output, _target):
        t = torch.rand(64, 1, requires_grad=True)
        u = model(t)
        (du,) = torch.autograd.grad(u.sum(), t, create_graph=True)
        start = torch.zeros(1, 1)
        return (du + u).square().mean() + (model(start) - 1).square().mean()

    train, _ = loaders(lambda n: (torch.rand(n, 1), torch.zeros(n, 1)), 256, 1)
    return Target(model, train, None, residual, torch.optim.Adam(model.parameters(), lr=5e-3))


@base
def weight_normalised_and_spectral():
    layers = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(20, 64)), nn.LeakyReLU(),
        nn.utils.parametrizations.spectral_norm(nn.Linear(64, 64)), nn.LeakyReLU(), nn.Linear(64, 4),
    )  # fmt: skip
    return classification(layers, clusters())


@base
def squeeze_and_excitation():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.body = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
            self.gate = nn.Sequential(nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 16), nn.Sigmoid())
            self.head = nn.Linear(16 * 4, 4)

        def forward(self, x):
            h = F.relu(self.stem(x))
            h = F.relu(self.body(h))
            h = h * self.gate(h.mean((2, 3)))[..., None, None]
            return self.head(F.adaptive_avg_pool2d(h, 2).flatten(1))

    model = Net()
    return classification(model, images(), torch.optim.Adam(model.parameters(), lr=3e-3))


@base
def user_matrix_factorisation():
    users, items = torch.randn(50, 4), torch.randn(60, 4)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.users, self.items = nn.Embedding(50, 8), nn.Embedding(60, 8)
            self.bias = nn.Parameter(torch.zeros(1))

        def forward(self, user, item):
            return (self.users(user) * self.items(item)).sum(1) + self.bias

    def make(n):
        u, i = torch.randint(0, 50, (n,)), torch.randint(0, 60, (n,))
        return u, i, (users[u] * items[i]).sum(1)

    model = Net()
    return classification(model, make, torch.optim.Adam(model.parameters(), lr=0.03), nn.MSELoss())


@base
def lbfgs_regression():
    model = mlp([10, 32, 1], nn.Tanh)
    train, test = loaders(smooth_function(), 256, 128, 256)
    return Target(model, train, test, nn.MSELoss(), torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5))


@base
def fine_tuning_at_a_small_rate():
    make = clusters()
    model = mlp([20, 64, 64, 4])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(40):
        x, y = make(128)
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return classification(model, make, torch.optim.Adam(model.parameters(), lr=1e-5))


@base
def cosine_schedule():
    model = mlp([20, 64, 64, 4])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    return classification(model, clusters(), optimizer)


@base
def diffusion():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.time = mlp([20, 64, 64, 20], nn.SiLU), nn.Embedding(10, 20)

        def forward(self, x):
            t = torch.randint(0, 10, (len(x),))
            noise, keep = torch.randn_like(x), (1 - t[:, None] / 10)
            return self.net(x * keep.sqrt() + noise * (1 - keep).sqrt() + self.time(t)), noise

    model = Net()
    train, test = loaders(clusters())
    return Target(model, train, test, lambda out, _: F.mse_loss(*out), torch.optim.Adam(model.parameters(), lr=2e-3))


@base
def siamese():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp([20, 64, 8])

        def forward(self, a, b):
            return (self.net(a) - self.net(b)).norm(dim=1)

    def make(n):
        x, y = centers(2 * n)
        return x[:n], x[n:], (y[:n] == y[n:]).float()

    def contrastive(distance, same):
        return (same * distance**2 + (1 - same) * F.relu(2 - distance) ** 2).mean()

    centers, model = clusters(), Net()
    return classification(model, make, None, contrastive)


@base
def rare_positives_with_a_focal_loss():
    direction = F.normalize(torch.randn(20), dim=0)

    def make(n):
        x = torch.randn(n, 20)
        return x, (x @ direction > 2).float()[:, None]

    def focal(out, y):
        p = out.sigmoid()
        weight = (y - p).abs() ** 2
        return (weight * F.binary_cross_entropy_with_logits(out, y, reduction="none")).mean()

    model = mlp([20, 64, 1])
    nn.init.constant_(model[-1].bias, -4.0)
    return classification(model, make, torch.optim.Adam(model.parameters(), lr=3e-3), focal)


@base
def ordinal():
    """One logit for each step from a grade to the next, as in CORAL: five grades, four outputs."""
    direction = F.normalize(torch.randn(20), dim=0)

    def make(n):
        x = torch.randn(n, 20)
        return x, torch.bucketize(x @ direction, torch.tensor([-0.9, -0.3, 0.3, 0.9]))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.score = mlp([20, 32, 16]), nn.Linear(16, 1, bias=False)
            self.thresholds = nn.Parameter(torch.arange(4.0).flip(0) - 1.5)

        def forward(self, x):
            return self.score(F.relu(self.body(x))) + self.thresholds

    def coral(logits, grade):
        above = (grade[:, None] > torch.arange(4)).float()
        return F.binary_cross_entropy_with_logits(logits, above)

    model = Net()
    return classification(model, make, torch.optim.Adam(model.parameters(), lr=3e-3), coral)
