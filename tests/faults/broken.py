"""Broken training programs: one fault each, with the rules that may name its cause."""

from __future__ import annotations

from itertools import pairwise

import torch
from bases import changed, classification, clusters, images, loaders, mlp, needle_tokens, series, smooth_function
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from gradcheck_kit.target import Target

BROKEN = {}


def fault(*causes):
    def register(make):
        BROKEN[make.__name__] = (make, causes)
        return make

    return register


def sgd(model, lr=0.05):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


# ---- gradient flow ----


@fault("vanishing-gradient")
def sigmoid_mlp_of_ten_layers():
    model = mlp([20, *[64] * 9, 4], nn.Sigmoid)
    return classification(model, clusters(), sgd(model, 0.1))


@fault("vanishing-gradient")
def sigmoid_mlp_of_seven_layers_with_adam():
    return classification(mlp([20, *[64] * 7, 4], nn.Sigmoid), clusters())


@fault("vanishing-gradient")
def functional_sigmoid_cnn():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.convs = nn.ModuleList(nn.Conv2d(1 if i == 0 else 12, 12, 3, padding=1) for i in range(9))
            self.head = nn.Linear(12, 4)

        def forward(self, x):
            for conv in self.convs:
                x = torch.sigmoid(conv(x))
            return self.head(x.mean((2, 3)))

    model = Net()
    return classification(model, images(), sgd(model))


@fault("bad-initialization", "vanishing-gradient")
def deep_relu_with_default_initialisation():
    model = mlp([20, *[64] * 20, 4])
    return classification(model, clusters(), sgd(model))


@fault("bad-initialization")
def regression_with_tiny_weights():
    model = mlp([10, *[48] * 8, 1], nn.Tanh)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.01)
    return classification(model, smooth_function(), sgd(model), nn.MSELoss())


@fault("bad-initialization", "exploding-gradient")
def relu_mlp_with_large_weights():
    model = mlp([20, *[64] * 7, 4])
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.8)
    return classification(model, clusters(), sgd(model, 0.01))


@fault("bad-initialization", "exploding-gradient")
def regression_cnn_with_large_weights():
    model = nn.Sequential(
        *[m for i in range(6) for m in (nn.Conv2d(1 if i == 0 else 16, 16, 3, padding=1), nn.ReLU())],
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 1),
    )  # fmt: skip
    for module in model:
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.5)
    make = images()
    return classification(model, changed(make, lambda x, y: (x, y.float()[:, None])), sgd(model, 0.01), nn.MSELoss())


class Added(nn.Module):
    """A layer whose output is added to what it is given."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        nn.init.kaiming_normal_(layer.weight)

    def forward(self, x):
        return x + self.layer(F.relu(x))


@fault("exploding-activation")
def residual_mlp_that_adds_up_without_a_norm():
    model = nn.Sequential(nn.Linear(20, 64), *[Added(nn.Linear(64, 64)) for _ in range(24)], nn.Linear(64, 4))
    return classification(model, clusters(), sgd(model))


@fault("exploding-activation")
def recurrence_that_adds_up_thirty_times():
    """An equation integrated without its step size."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.step, self.head = nn.Linear(20, 48), Added(nn.Linear(48, 48)), nn.Linear(48, 4)

        def forward(self, x):
            x = self.start(x)
            for _ in range(30):
                x = self.step(x)
            return self.head(x)

    model = Net()
    return classification(model, clusters(), sgd(model, 0.02))


@fault("exploding-activation")
def graph_network_that_sums_over_all_neighbours():
    """Sixteen nodes, each connected to all others: every layer multiplies what they have in common by sixteen."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(8 if i == 0 else 48, 48) for i in range(5))
            self.head = nn.Linear(48, 3)

        def forward(self, nodes):
            for layer in self.layers:
                nodes = F.relu(layer(nodes + nodes.sum(1, keepdim=True)))
            return self.head(nodes.mean(1))

    def make(n):
        y = torch.randint(0, 3, (n,))
        return torch.randn(n, 16, 8) + F.one_hot(y, 8)[:, None], y

    model = Net()
    return classification(model, make, sgd(model, 0.02))


class AttentionAlone(nn.Module):
    """Self-attention without a residual connection, and with or without a network behind it."""

    def __init__(self, width=32, hidden=None):
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.body = nn.Identity()
        if hidden:
            self.body = nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width), nn.LayerNorm(width)
            )

    def forward(self, x):
        return self.body(self.attention(x, x, x, need_weights=False)[0])


class Tagger(nn.Module):
    """One of four tags for each of twenty words."""

    def __init__(self, blocks):
        super().__init__()
        self.embed, self.position = nn.Embedding(40, 32), nn.Parameter(torch.randn(20, 32) * 0.02)
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.blocks(self.embed(x) + self.position))


def tagging(model):
    def make(n):
        x = torch.randint(0, 40, (n, 20))
        return x, x % 4

    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    return classification(model, make, optimizer, lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten()))


@fault("rank-collapse")
def tagger_of_attention_alone():
    return tagging(Tagger([AttentionAlone() for _ in range(4)]))


@fault("rank-collapse")
def transformer_that_forgot_its_residual_connections():
    return tagging(Tagger([AttentionAlone(hidden=64) for _ in range(6)]))


@fault("rank-collapse")
def graph_network_that_averages_its_nodes_away():
    class Average(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(32, 32)

        def forward(self, nodes):
            return F.relu(self.linear((nodes + nodes.mean(1, keepdim=True)) / 2))

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.lift, self.head = nn.Linear(8, 32), nn.Linear(32, 3)
            self.layers = nn.ModuleList(Average() for _ in range(10))

        def forward(self, nodes):
            nodes = self.lift(nodes)
            for layer in self.layers:
                nodes = layer(nodes)
            return self.head(nodes)

    def make(n):
        y = torch.randint(0, 3, (n, 12))
        return torch.randn(n, 12, 8) + 1.5 * F.one_hot(y, 8), y

    model = Net()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    return classification(model, make, optimizer, lambda out, y: F.cross_entropy(out.flatten(0, 1), y.flatten()))


@fault("no-gradient")
def encoder_detached_from_its_head():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.rnn, self.head = nn.Embedding(40, 16), nn.GRU(16, 32, batch_first=True), nn.Linear(32, 4)

        def forward(self, x):
            return self.head(self.rnn(self.embed(x))[0].amax(1).detach())

    return classification(Net(), needle_tokens())


@fault("no-gradient")
def stem_under_no_grad():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.body = nn.Conv2d(1, 16, 3), nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(16 * 196, 4))

        def forward(self, x):
            with torch.no_grad():
                x = self.stem(x)
            return self.body(x)

    return classification(Net(), images())


@fault("no-gradient")
def adapter_with_both_factors_zero():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.base, self.head = nn.Linear(20, 32), nn.Linear(32, 4)
            self.down, self.up = nn.Linear(20, 4, bias=False), nn.Linear(4, 32, bias=False)
            nn.init.zeros_(self.down.weight)
            nn.init.zeros_(self.up.weight)

        def forward(self, x):
            return self.head(F.relu(self.base(x) + self.up(self.down(x))))

    return classification(Net(), clusters())


@fault("no-gradient")
def a_branch_that_nobody_calls():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.skip, self.head = nn.Linear(20, 32), nn.Linear(20, 32), nn.Linear(32, 4)

        def forward(self, x):
            return self.head(F.relu(self.body(x)))

    return classification(Net(), clusters())


@fault("dead-units", "no-gradient")
def relu_cnn_with_a_bias_of_minus_ten():
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 144, 4)
    )
    nn.init.constant_(model[2].bias, -10)
    return classification(model, images(), sgd(model, 0.01))


@fault("dead-units", "no-gradient")
def functional_relu_with_negative_biases():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(20, 64), nn.Linear(64, 64), nn.Linear(64, 4)
            nn.init.constant_(self.b.bias, -6)

        def forward(self, x):
            return self.c(F.relu(self.b(F.relu(self.a(x)))))

    model = Net()
    return classification(model, clusters(), sgd(model, 0.01))


@fault("bad-initialization", "saturated-activation")
def tanh_mlp_with_large_weights():
    model = mlp([20, 64, 64, 64, 4], nn.Tanh)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1.5)
    return classification(model, clusters(), sgd(model, 0.01))


@fault("saturated-activation", "unnormalized-input")
def sigmoid_cnn_on_raw_pixels():
    model = nn.Sequential(
        nn.Conv2d(1, 12, 5), nn.Sigmoid(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12 * 36, 32), nn.Sigmoid(),
        nn.Linear(32, 4),
    )  # fmt: skip
    make = images()
    return classification(model, changed(make, lambda x, y: ((x * 60 + 128).clamp(0, 255), y)), sgd(model))


@fault("non-finite")
def logarithm_of_zero():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(20, 32), nn.Linear(32, 4)

        def forward(self, x):
            return self.b(torch.log(F.relu(self.a(x))))

    return classification(Net(), clusters())


@fault("non-finite")
def norm_with_a_kink_at_zero():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(20, 32), nn.Linear(32, 4)

        def forward(self, x):
            h = F.relu(self.a(x))
            return self.b(h - (h - h).square().sum(1, keepdim=True).sqrt())

    return classification(Net(), clusters())


@fault("non-finite-input")
def a_nan_among_the_inputs():
    make = clusters()

    def with_nan(n):
        x, y = make(n)
        x[torch.randint(0, n, (max(1, n // 50),)), 3] = float("nan")
        return x, y

    return classification(mlp([20, 64, 4]), with_nan)


# ---- optimisation ----


@fault("not-optimized")
def optimizer_of_the_last_layer_only():
    model = mlp([20, 64, 64, 4])
    return classification(model, clusters(), torch.optim.Adam(model[-1].parameters(), lr=1e-3))


@fault("not-optimized")
def optimizer_of_another_object():
    model = mlp([20, 64, 64, 4])
    return classification(model, clusters(), torch.optim.Adam(mlp([20, 64, 64, 4]).parameters(), lr=1e-3))


@fault("not-optimized")
def head_replaced_after_the_optimizer_was_made():
    model = mlp([20, 64, 64, 10])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    model[-1] = nn.Linear(64, 4)
    return classification(model, clusters(), optimizer)


@fault("parameter-unchanged", "learning-rate-too-low")
def a_group_with_learning_rate_zero():
    model = mlp([20, 64, 64, 4])
    groups = [{"params": model[:2].parameters(), "lr": 0.0}, {"params": model[2:].parameters()}]
    return classification(model, clusters(), torch.optim.Adam(groups, lr=1e-3))


@fault("learning-rate-too-high")
def mlp_with_adam_at_one():
    model = mlp([20, 64, 64, 4])
    return classification(model, clusters(), torch.optim.Adam(model.parameters(), lr=1.0))


@fault("learning-rate-too-high")
def cnn_with_sgd_at_five():
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * 25, 4),
    )  # fmt: skip
    return classification(model, images(), sgd(model, 5.0))


@fault("learning-rate-too-high")
def regression_with_sgd_at_two():
    model = mlp([10, 64, 64, 1])
    return classification(model, smooth_function(), sgd(model, 2.0), nn.MSELoss())


@fault("learning-rate-too-high")
def transformer_with_adam_at_a_half():
    from bases import encoder

    target = encoder()
    target.optimizer = torch.optim.Adam(target.model.parameters(), lr=0.5)
    return target


def in_small_batches(model, make, batch, lr, loss_fn=None):
    train, test = loaders(make, batch=batch)
    return Target(model, train, test, loss_fn or nn.CrossEntropyLoss(), sgd(model, lr))


@fault("noisy-gradient", "learning-rate-too-high")
def mlp_on_one_sample_at_a_time_at_a_hot_rate():
    centers = torch.randn(4, 20) * 0.5

    def make(n):
        y = torch.randint(0, 4, (n,))
        return centers[y] + torch.randn(n, 20), y

    return in_small_batches(mlp([20, 64, 64, 4]), make, 1, 0.05)


@fault("noisy-gradient", "learning-rate-too-high")
def cnn_on_noisy_images_two_at_a_time():
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * 25, 4),
    )  # fmt: skip
    return in_small_batches(model, changed(images(), lambda x, y: (x + 1.5 * torch.randn_like(x), y)), 2, 0.05)


@fault("noisy-gradient", "learning-rate-too-high")
def regression_of_noisy_targets_two_at_a_time():
    noisy = changed(smooth_function(), lambda x, y: (x, y + 0.7 * torch.randn_like(y)))
    return in_small_batches(mlp([10, 64, 64, 1], nn.Tanh), noisy, 2, 0.02, nn.MSELoss())


@fault("oscillating-loss")
def regression_with_a_momentum_of_99_hundredths():
    model = mlp([10, 64, 64, 1], nn.Tanh)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.99)
    return classification(model, smooth_function(), optimizer, nn.MSELoss())


@fault("oscillating-loss")
def cnn_with_a_momentum_of_99_hundredths():
    from bases import plain_cnn_with_functional_relu

    target = plain_cnn_with_functional_relu()
    target.optimizer = torch.optim.SGD(target.model.parameters(), lr=0.05, momentum=0.99)
    return target


@fault("oscillating-loss")
def mlp_at_a_high_rate_with_a_momentum_of_99_hundredths():
    model = mlp([20, 64, 64, 4])
    return classification(model, clusters(), torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.99))


@fault("oscillating-loss", "learning-rate-too-high")
def transformer_with_sgd_at_three_tenths():
    from bases import encoder

    target = encoder()
    target.optimizer = sgd(target.model, 0.3)
    return target


@fault("learning-rate-too-low", "loss-not-decreasing")
def mlp_with_sgd_at_a_millionth():
    model = mlp([20, 64, 64, 4])
    return classification(model, clusters(), torch.optim.SGD(model.parameters(), lr=1e-6))


@fault("learning-rate-too-low", "loss-not-decreasing")
def lstm_with_adam_at_a_hundred_millionth():
    from bases import lstm

    target = lstm()
    target.optimizer = torch.optim.Adam(target.model.parameters(), lr=1e-8)
    return target


@fault("learning-rate-too-low", "loss-not-decreasing")
def regression_at_a_ten_millionth():
    model = mlp([10, 64, 64, 1], nn.Tanh)
    return classification(model, smooth_function(), torch.optim.SGD(model.parameters(), lr=1e-7), nn.MSELoss())


@fault("sum-reduction")
def cross_entropy_summed_over_the_batch():
    model = mlp([20, 64, 64, 4])
    return classification(model, clusters(), sgd(model), nn.CrossEntropyLoss(reduction="sum"))


@fault("sum-reduction")
def handwritten_squared_error_with_sum():
    model = mlp([10, 64, 64, 1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    return classification(model, smooth_function(), optimizer, lambda out, y: ((out - y) ** 2).sum())


@fault("sum-reduction")
def segmentation_summed_over_pixels():
    from bases import segmentation

    target = segmentation()
    target.loss_fn, target.optimizer = nn.CrossEntropyLoss(reduction="sum"), sgd(target.model)
    return target


@fault("sum-reduction")
def a_loss_in_forward_that_is_summed():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 16, 3, 2), nn.Linear(16 * 49, 4)

        def forward(self, x, labels):
            logits = self.head(F.relu(self.conv(x)).flatten(1))
            return logits, F.cross_entropy(logits, labels, reduction="sum")

    model = Net()
    train, _ = loaders(images())
    return Target(model, train, None, None, sgd(model, 0.1))


# ---- initialisation, model and loss ----


class MeanLayer(nn.Module):
    """A layer of a graph network in a ring: each node by itself, and the mean of its neighbours."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.w_self = nn.Parameter(torch.full((inputs, outputs), 1 / inputs))
        self.w_neighbours = nn.Parameter(torch.full((inputs, outputs), 1 / inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x):
        neighbours = (x.roll(1, 1) + x.roll(-1, 1)) / 2
        return x @ self.w_self + neighbours @ self.w_neighbours + self.bias


@fault("symmetric-initialization")
def graph_layers_of_ones_over_what_comes_in():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = MeanLayer(16, 24), MeanLayer(24, 24), nn.Linear(24, 4)

        def forward(self, x):
            return self.head(F.relu(self.second(F.relu(self.first(x[:, 0])))).mean(1))

    return classification(Net(), images(), None)


@fault("symmetric-initialization")
def matrices_of_a_constant_in_the_models_own_forward():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.w1, self.b1 = nn.Parameter(torch.full((64, 20), 0.05)), nn.Parameter(torch.zeros(64))
            self.w2, self.b2 = nn.Parameter(torch.full((4, 64), 0.05)), nn.Parameter(torch.zeros(4))

        def forward(self, x):
            return F.linear(F.relu(F.linear(x, self.w1, self.b1)), self.w2, self.b2)

    return classification(Net(), clusters())


@fault("symmetric-initialization")
def constant_weights_and_zero_biases():
    model = mlp([20, 64, 64, 4])
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, 0.05)
            nn.init.zeros_(module.bias)
    return classification(model, clusters(), sgd(model))


@fault("symmetric-initialization")
def constant_weights_and_random_biases():
    model = mlp([20, 64, 64, 4], nn.Tanh)
    for module in model:
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, 0.01)
    return classification(model, clusters(), sgd(model))


@fault("symmetric-initialization")
def all_layers_start_at_zero():
    model = mlp([20, 64, 64, 4])
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return classification(model, clusters())


@fault("symmetric-initialization")
def cnn_of_ones():
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 4),
    )  # fmt: skip
    for module in model:
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
            nn.init.zeros_(module.bias)
    return classification(model, images(), torch.optim.Adam(model.parameters(), lr=1e-3))


@fault("symmetric-initialization")
def lstm_with_constant_weights():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(1, 32, batch_first=True), nn.Linear(32, 3)
            for parameter in self.parameters():
                nn.init.constant_(parameter, 0.1)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    model = Net()
    return classification(model, series(), torch.optim.Adam(model.parameters(), lr=0.01))


@fault("initial-loss", "bad-initialization")
def head_with_huge_weights():
    model = mlp([20, 64, 4])
    nn.init.normal_(model[-1].weight, std=30)
    return classification(model, clusters(), torch.optim.Adam(model.parameters(), lr=1e-3))


@fault("bad-initialization")
def every_parameter_drawn_from_a_standard_normal():
    model = mlp([20, *[64] * 4, 4])
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return classification(model, clusters(), sgd(model, 0.01))


@fault("bad-initialization")
def deep_cnn_with_a_deviation_of_one_hundredth():
    model = nn.Sequential(
        *[m for i in range(6) for m in (nn.Conv2d(1 if i == 0 else 16, 16, 3, padding=1), nn.ReLU())],
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(64, 4),
    )  # fmt: skip
    for module in model:
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.01)
            nn.init.zeros_(module.bias)
    return classification(model, images(), sgd(model, 0.02))


@fault("bad-initialization")
def layers_written_by_hand_from_randn():
    class Dense(nn.Module):
        def __init__(self, inputs, outputs):
            super().__init__()
            self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.zeros(outputs))

        def forward(self, x):
            return x @ self.weight + self.bias

    sizes = [10, *[64] * 4]
    hidden = [m for a, b in pairwise(sizes) for m in (Dense(a, b), nn.ReLU())]
    model = nn.Sequential(*hidden, nn.Linear(64, 1))
    return classification(model, smooth_function(), sgd(model, 0.01), nn.MSELoss())


@fault("bad-initialization")
def lstm_with_weights_up_to_ten():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(1, 32, batch_first=True), nn.Linear(32, 3)
            for parameter in self.rnn.parameters():
                nn.init.uniform_(parameter, -10, 10)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    model = Net()
    return classification(model, series(), torch.optim.Adam(model.parameters(), lr=0.01))


@fault("unregistered-module")
def layers_in_a_python_list():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.head = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(8, 4)
            self.blocks = [nn.Conv2d(8, 8, 3, padding=1) for _ in range(3)]

        def forward(self, x):
            x = self.stem(x)
            for block in self.blocks:
                x = x + F.relu(block(x))
            return self.head(x.mean((2, 3)))

    return classification(Net(), images())


@fault("unregistered-module")
def heads_in_a_python_dict():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(1, 32, batch_first=True)
            self.heads = {"class": nn.Linear(32, 3)}

        def forward(self, x):
            return self.heads["class"](self.rnn(x)[0][:, -1])

    return classification(Net(), series(), None)


@fault("unregistered-module")
def a_layer_built_in_forward():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(32, 4)

        def forward(self, x):
            return self.head(nn.Linear(20, 32)(x).relu())

    return classification(Net(), clusters())


@fault("loss-broadcast")
def squared_error_of_a_column_and_a_row():
    make = smooth_function()
    return classification(mlp([10, 64, 1]), changed(make, lambda x, y: (x, y[:, 0])), None, nn.MSELoss())


@fault("loss-broadcast")
def handwritten_error_of_a_row_and_a_column():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp([10, 64, 1])

        def forward(self, x):
            return self.net(x)[:, 0]

    return classification(Net(), smooth_function(), None, lambda out, y: (out - y.float()).abs().mean())


@fault("redundant-softmax")
def softmax_before_cross_entropy():
    model = nn.Sequential(*mlp([20, 64, 64, 4]), nn.Softmax(dim=1))
    return classification(model, clusters(), sgd(model))


@fault("redundant-softmax")
def softmax_in_forward_of_an_lstm():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(1, 32, batch_first=True), nn.Linear(32, 3)

        def forward(self, x):
            return F.softmax(self.head(self.rnn(x)[0][:, -1]), dim=-1)

    model = Net()
    return classification(model, series(), torch.optim.Adam(model.parameters(), lr=0.01), F.cross_entropy)


@fault("redundant-softmax")
def handwritten_softmax_over_pixels():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 2, 1)

        def forward(self, x):
            scores = self.b(F.relu(self.a(x))).exp()
            return scores / scores.sum(1, keepdim=True)

    def make(n):
        x = torch.randn(n, 3, 12, 12)
        return x, (F.avg_pool2d(x, 3, 1, 1).sum(1) > 0.3).long()

    return classification(Net(), make)


@fault("redundant-softmax")
def sigmoid_before_a_loss_with_logits():
    directions = torch.randn(20, 6)

    def make(n):
        x = torch.randn(n, 20)
        return x, (x @ directions > 1).float()

    return classification(nn.Sequential(*mlp([20, 64, 6]), nn.Sigmoid()), make, None, nn.BCEWithLogitsLoss())


@fault("wrong-output-activation")
def sigmoid_before_cross_entropy():
    model = nn.Sequential(*mlp([20, 64, 64, 4]), nn.Sigmoid())
    return classification(model, clusters(), sgd(model))


@fault("wrong-output-activation")
def relu_after_the_last_layer_of_a_binary_classifier():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Linear(20, 64), nn.Linear(64, 64), nn.Linear(64, 1)

        def forward(self, x):
            for layer in (self.a, self.b, self.c):
                x = F.relu(layer(x))
            return x

    direction = torch.randn(20)

    def make(n):
        x = torch.randn(n, 20)
        return x, (x @ direction > 0).float()[:, None]

    return classification(Net(), make, None, nn.BCEWithLogitsLoss())


@fault("wrong-output-activation")
def softmax_before_negative_log_likelihood():
    model = nn.Sequential(*mlp([20, 64, 4]), nn.Softmax(dim=1))
    return classification(model, clusters(), None, nn.NLLLoss())


@fault("wrong-output-activation")
def logits_for_negative_log_likelihood():
    return classification(mlp([20, 64, 4]), clusters(), None, nn.NLLLoss())


@fault("wrong-output-activation")
def softmax_of_a_single_output():
    direction = torch.randn(20)

    def make(n):
        x = torch.randn(n, 20)
        return x, (x @ direction > 0).float()[:, None]

    return classification(nn.Sequential(*mlp([20, 64, 1]), nn.Softmax(dim=1)), make, None, nn.BCELoss())


@fault("wrong-output-activation")
def sigmoid_output_for_standardised_targets():
    model = nn.Sequential(*mlp([10, 64, 64, 1]), nn.Sigmoid())
    return classification(model, smooth_function(), None, nn.MSELoss())


@fault("invalid-labels", "wrong-output-activation")
def binary_cross_entropy_of_standardised_images():
    model = nn.Sequential(nn.Flatten(), *mlp([256, 64, 16, 64, 256]), nn.Unflatten(1, (1, 16, 16)))
    make = images()
    return classification(model, changed(make, lambda x, y: (x, x)), None, nn.BCEWithLogitsLoss())


@fault("invalid-labels", "wrong-output-activation")
def labels_of_minus_one_and_one():
    direction = torch.randn(20)

    def make(n):
        x = torch.randn(n, 20)
        return x, (x @ direction).sign()[:, None]

    return classification(mlp([20, 64, 1]), make, None, nn.BCEWithLogitsLoss())


@fault("no-nonlinearity")
def keras_like_layers_without_an_activation():
    class Dense(nn.Module):
        def __init__(self, inputs, outputs, activation=None):
            super().__init__()
            drawn = torch.randn(inputs, outputs) / inputs**0.5
            self.kernel, self.bias = nn.Parameter(drawn), nn.Parameter(torch.zeros(outputs))
            self.activation = activation or nn.Identity()

        def forward(self, x):
            return self.activation(x @ self.kernel + self.bias)

    model, make = nn.Sequential(Dense(10, 64), Dense(64, 64), Dense(64, 1)), smooth_function()
    return classification(model, changed(make, lambda x, y: (x, x[:, :1] * x[:, 1:2])), None, nn.MSELoss())


@fault("no-nonlinearity")
def mlp_without_activations():
    model = nn.Sequential(nn.Linear(20, 64), nn.Dropout(0.1), nn.Linear(64, 64), nn.Linear(64, 4))
    return classification(model, clusters())


@fault("no-nonlinearity")
def activation_that_forward_forgets():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2, self.relu = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 16, 3), nn.ReLU()
            self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(16 * 144, 4)

        def forward(self, x):
            return self.head(self.conv2(self.norm(self.conv1(x))).flatten(1)).log_softmax(1)

    return classification(Net(), images(), None, nn.NLLLoss())


@fault("no-nonlinearity")
def regression_without_activations():
    model, make = nn.Sequential(nn.Linear(10, 64), nn.Linear(64, 1)), smooth_function()
    return classification(model, changed(make, lambda x, y: (x, x[:, :1] * x[:, 1:2])), None, nn.MSELoss())


@fault("batch-leakage")
def attention_with_its_softmax_over_the_batch():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.value, self.head = nn.Linear(20, 64), nn.Linear(20, 64), nn.Linear(64, 4)

        def forward(self, x):
            return self.head(self.gate(x).softmax(0) * 16 * self.value(x))

    return classification(Net(), clusters())


@fault("batch-leakage")
def gru_that_takes_the_batch_for_time():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.GRU(1, 32), nn.Linear(32, 3)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    model = Net()
    return classification(model, series(), torch.optim.Adam(model.parameters(), lr=0.01))


@fault("batch-leakage")
def view_in_the_place_of_a_transpose():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.rnn, self.head = nn.Embedding(40, 16), nn.GRU(16, 32), nn.Linear(32, 4)

        def forward(self, x):
            h = self.embed(x)
            batch, time, width = h.shape
            return self.head(self.rnn(h.view(time, batch, width))[0].amax(0))

    return classification(Net(), needle_tokens())


@fault("batch-leakage")
def images_normalised_over_the_batch():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 16, 3), nn.Linear(16 * 49, 4)

        def forward(self, x):
            x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)
            return self.head(F.max_pool2d(F.relu(self.conv(x)), 2).flatten(1))

    return classification(Net(), images())


@fault("causal-leakage")
def language_model_without_a_mask():
    from bases import causal_language_model

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)

        def forward(self, x):
            q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, 4, -1)).permute(2, 0, 3, 1, 4)
            return x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    target = causal_language_model()
    target.model.blocks = nn.ModuleList(Block(48) for _ in range(3))
    target.optimizer = torch.optim.AdamW(target.model.parameters(), lr=1e-3)
    return target


@fault("causal-leakage")
def language_model_with_convolutions_padded_on_both_sides():
    from bases import causal_language_model

    class Block(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.norm, self.conv = nn.LayerNorm(width), nn.Conv1d(width, width, 3, padding=1)

        def forward(self, x):
            return x + F.gelu(self.conv(self.norm(x).transpose(1, 2)).transpose(1, 2))

    target = causal_language_model()
    target.model.blocks = nn.ModuleList(Block(48) for _ in range(3))
    target.optimizer = torch.optim.AdamW(target.model.parameters(), lr=1e-3)
    return target


@fault("causal-leakage")
def forecast_by_a_bidirectional_lstm():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(1, 24, batch_first=True, bidirectional=True), nn.Linear(48, 1)

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    make = series(25)
    return classification(Net(), changed(make, lambda x, _: (x[:, :-1], x[:, 1:])), None, nn.MSELoss())


# ---- evaluation ----


@fault("eval-nondeterministic")
def functional_dropout_without_training_flag():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(20, 64), nn.Linear(64, 4)

        def forward(self, x):
            return self.b(F.dropout(F.relu(self.a(x)), 0.3))

    return classification(Net(), clusters())


@fault("eval-nondeterministic")
def attention_dropout_at_evaluation():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.qkv, self.head = nn.Embedding(40, 32), nn.Linear(32, 96), nn.Linear(32, 4)

        def forward(self, x):
            q, k, v = self.qkv(self.embed(x)).chunk(3, -1)
            return self.head(F.scaled_dot_product_attention(q, k, v, dropout_p=0.2).mean(1))

    return classification(Net(), needle_tokens())


@fault("eval-nondeterministic")
def noise_that_ignores_the_mode():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 16, 3), nn.Linear(16, 4)

        def forward(self, x):
            h = F.relu(self.conv(x + 0.3 * torch.randn_like(x)))
            return self.head(h.mean((2, 3)))

    return classification(Net(), images())


@fault("eval-accuracy", "train-eval-gap")
def test_labels_in_another_order():
    model, make = mlp([20, 64, 4]), clusters()
    train, _ = loaders(make)
    _, test = loaders(changed(make, lambda x, y: (x, (y + 1) % 4)))
    return Target(model, train, test, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=3e-3))


@fault("eval-accuracy", "train-eval-gap")
def test_images_scaled_otherwise():
    model, make = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 196, 4)), images()
    train, _ = loaders(make)
    _, test = loaders(changed(make, lambda x, y: (x * 0 + 200 + x, y)))
    return Target(model, train, test, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=3e-3))


@fault("no-gradient", "cannot-fit-one-batch", "symmetric-initialization", "input-ignored")
def input_multiplied_by_zero():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp([20, 64, 4])

        def forward(self, x):
            return self.net(x * 0)

    return classification(Net(), clusters())


@fault("input-ignored")
def positions_without_tokens():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(40, 32), nn.Embedding(20, 32)
            layer = nn.TransformerEncoderLayer(32, 4, 64, 0.1, batch_first=True)
            self.body, self.head = nn.TransformerEncoder(layer, 1), nn.Linear(32, 4)

        def forward(self, x):
            places = torch.arange(x.shape[1]).expand_as(x)
            return self.head(self.body(self.positions(places)).mean(1))

    return classification(Net(), needle_tokens())


@fault("input-ignored")
def lstm_that_returns_its_initial_state():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.LSTM(1, 32, batch_first=True), nn.Linear(32, 3)

        def forward(self, x):
            h0, c0 = torch.zeros(1, len(x), 32), torch.zeros(1, len(x), 32)
            _, _state = self.rnn(x, (h0, c0))
            return self.head(h0[-1])

    return classification(Net(), series())


@fault("input-ignored")
def one_group_per_pooled_channel():
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.GroupNorm(16, 16), nn.Flatten(), nn.Linear(16, 4)
    )
    return classification(model, images())


@fault("input-ignored")
def layer_norm_of_a_single_prediction():
    model = nn.Sequential(*mlp([10, 64, 1]), nn.LayerNorm(1))
    return classification(model, smooth_function(), None, nn.MSELoss())


# ---- numerics ----


@fault("wrong-gradient")
def swish_with_half_of_its_derivative():
    class Swish(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * torch.sigmoid(x)

        @staticmethod
        def backward(ctx, gradient):
            (x,) = ctx.saved_tensors
            return gradient * x * torch.sigmoid(x) * (1 - torch.sigmoid(x))

    class Activation(nn.Module):
        def forward(self, x):
            return Swish.apply(x)

    model = nn.Sequential(nn.Linear(20, 64), Activation(), nn.Linear(64, 64), Activation(), nn.Linear(64, 4))
    return classification(model, clusters())


@fault("wrong-gradient")
def square_with_the_sign_of_its_gradient_turned():
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, gradient):
            return -2 * ctx.saved_tensors[0] * gradient

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8 * 49, 4)

        def forward(self, x):
            return self.head(F.avg_pool2d(Square.apply(self.conv(x)), 2).flatten(1))

    return classification(Net(), images())


@fault("wrong-gradient")
def squared_error_that_forgets_its_factor():
    class SquaredError(torch.autograd.Function):
        @staticmethod
        def forward(ctx, prediction, target):
            ctx.save_for_backward(prediction, target)
            return (prediction - target).square().mean()

        @staticmethod
        def backward(ctx, gradient):
            prediction, target = ctx.saved_tensors
            return gradient * (prediction - target).sign() / target.numel(), None

    def loss_fn(prediction, target):
        return SquaredError.apply(prediction, target)

    return classification(mlp([10, 64, 1], nn.Tanh), smooth_function(), None, loss_fn)


# ---- data ----


@fault("unnormalized-input")
def a_cnn_on_raw_pixels():
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(144, 4)
    )
    make = images()
    return classification(model, changed(make, lambda x, y: ((x * 60 + 128).clamp(0, 255).round(), y)), sgd(model))


@fault("unnormalized-input")
def a_table_in_the_units_of_its_columns():
    units = torch.logspace(-1, 4, 20)
    model = mlp([20, 64, 4])
    return classification(model, changed(clusters(), lambda x, y: (x * units, y)), sgd(model))


@fault("unnormalized-input")
def measurements_in_kilometres_that_should_be_in_metres():
    make = clusters()
    return classification(mlp([20, 64, 4]), changed(make, lambda x, y: (x * 1e-4, y)))


@fault("unnormalized-target")
def house_prices_in_dollars():
    make = changed(smooth_function(), lambda x, y: (x, y * 8e4 + 3e5))
    return classification(mlp([10, 64, 64, 1]), make, None, nn.MSELoss())


@fault("unnormalized-target")
def energies_in_joules_with_sgd():
    make = changed(smooth_function(), lambda x, y: (x, y * 5e3))
    model = mlp([10, 64, 64, 1], nn.Tanh)
    return classification(model, make, sgd(model, 0.01), nn.MSELoss())


@fault("non-finite-input")
def a_constant_column_divided_by_its_standard_deviation():
    def standardised(x, y):
        x[:, 7] = 3.0
        return (x - x.mean(0)) / x.std(0), y

    return classification(mlp([20, 64, 4]), changed(clusters(), standardised))


@fault("non-finite-input")
def logarithm_of_targets_that_are_zero():
    def logarithms(x, y):
        return x, torch.log(torch.where(y > 2.5, 0.0, y.abs()))

    return classification(mlp([10, 64, 1]), changed(smooth_function(), logarithms), None, nn.MSELoss())


@fault("class-imbalance")
def one_positive_among_forty():
    """They are hard to tell apart, and never guessing them is cheapest."""
    direction = F.normalize(torch.randn(20), dim=0)

    def make(n):
        y = (torch.rand(n, 1) < 0.025).float()
        return torch.randn(n, 20) + 1.2 * y * direction, y

    train, test = loaders(make, test=4096)
    model = mlp([20, 64, 1])
    return Target(model, train, test, nn.BCEWithLogitsLoss(), torch.optim.Adam(model.parameters(), lr=1e-3))


@fault("class-imbalance")
def three_kinds_of_defects_that_are_rare():
    centers = torch.randn(4, 20) * 0.5

    def make(n):
        y = torch.multinomial(torch.tensor([0.94, 0.02, 0.02, 0.02]), n, replacement=True)
        return centers[y] + torch.randn(n, 20), y

    train, test = loaders(make, test=4096)
    model = mlp([20, 64, 4])
    return Target(model, train, test, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-3))


@fault("unshuffled-data")
def images_read_folder_by_folder():
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * 25, 4),
    )  # fmt: skip
    x, y = images()(2048)
    order = y.argsort()
    train, test = DataLoader(TensorDataset(x[order], y[order]), 64), DataLoader(TensorDataset(x, y), 128)
    return Target(model, train, test, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-3))


@fault("unshuffled-data")
def a_table_sorted_by_its_label():
    class Table(Dataset):
        def __init__(self):
            x, y = clusters(2)(8000)
            order = y.argsort()
            self.x, self.y = x[order], y[order].float()[:, None]

        def __len__(self):
            return len(self.x)

        def __getitem__(self, index):
            return self.x[index], self.y[index]

    model = mlp([20, 64, 1])
    train = DataLoader(Table(), batch_size=32, drop_last=True)
    return Target(model, train, None, nn.BCEWithLogitsLoss(), torch.optim.Adam(model.parameters(), lr=1e-3))


@fault("duplicate-batches")
def a_data_set_that_ignores_the_index():
    class Table(Dataset):
        def __init__(self):
            self.x, self.y = clusters()(1024)
            self.row = 0

        def __len__(self):
            return len(self.x)

        def __getitem__(self, index):
            return self.x[self.row], self.y[self.row]

    model = mlp([20, 64, 4])
    train = DataLoader(Table(), 64, shuffle=True)
    return Target(model, train, None, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=1e-3))


@fault("duplicate-batches")
def a_chunked_data_set_with_a_wrong_chunk_size():
    x, y = clusters()(1024)

    chunks = [(x[i : i + 128], y[i : i + 128]) for i in range(0, 1024, 128)]

    class Chunks(Dataset):
        def __len__(self):
            return 1024

        def __getitem__(self, index):
            rows, labels = chunks[index // 128]
            return rows[index % 64], labels[index % 64]

    model = mlp([20, 64, 4])
    return Target(model, DataLoader(Chunks(), 64), None, nn.CrossEntropyLoss(), sgd(model))


@fault("duplicate-batches")
def a_stream_that_every_worker_reads_from_its_start():
    x, y = clusters()(4096)

    class Stream(IterableDataset):
        def __iter__(self):
            yield from zip(x, y, strict=True)

    model = mlp([20, 64, 4])
    return Target(model, DataLoader(Stream(), 64, num_workers=2), None, nn.CrossEntropyLoss(), sgd(model))


@fault("invalid-labels")
def binary_labels_of_minus_one_and_one():
    direction = torch.randn(20)

    def make(n):
        x = torch.randn(n, 20)
        return x, (x @ direction).sign()[:, None]

    return classification(mlp([20, 64, 1]), make, None, nn.BCEWithLogitsLoss())


@fault("invalid-labels")
def masks_as_they_come_from_image_files():
    def make(n):
        x = torch.randn(n, 3, 12, 12)
        return x, (F.avg_pool2d(x, 3, 1, 1).sum(1, keepdim=True) > 0.3).float() * 255

    model = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 1))
    return classification(model, make, None, F.binary_cross_entropy_with_logits)


@fault("invalid-labels")
def cross_entropy_of_one_score_per_sample():
    direction = torch.randn(20)

    def make(n):
        x = torch.randn(n, 20)
        return x, (x @ direction > 0).float()[:, None]

    return classification(mlp([20, 64, 1]), make, None, nn.CrossEntropyLoss())


def batchnorm_mlp():
    return nn.Sequential(
        nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(),
        nn.Linear(64, 4),
    )  # fmt: skip


@fault("train-eval-gap")
def batches_of_one_scanner_each():
    """Every scanner has an offset of its own, which BatchNorm takes away as long as a batch is of one scanner."""
    make, batches = clusters(), []
    for _ in range(24):
        x, y = make(64)
        batches.append((x + 8 * torch.randn(20), y))
    model = batchnorm_mlp()
    return Target(model, batches, None, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=3e-3))


@fault("train-eval-gap")
def a_batch_sampler_that_groups_images_by_site():
    """The sites differ in brightness and contrast by far more than the classes do."""
    x, y = images()(1536)
    sites = torch.arange(1536) // 64
    gain, offset = torch.rand(24) * 2 + 0.2, torch.randn(24) * 8
    x = x * gain[sites, None, None, None] + offset[sites, None, None, None]
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, 2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Flatten(), nn.Linear(144, 4),
    )  # fmt: skip
    by_site = [(sites == site).nonzero()[:, 0].tolist() for site in torch.randperm(24)]
    train = DataLoader(TensorDataset(x, y), batch_sampler=by_site)
    return Target(model, train, None, nn.CrossEntropyLoss(), torch.optim.Adam(model.parameters(), lr=3e-3))


@fault("eval-mode-ignored")
def dropouts_in_a_python_list():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(20, 64), nn.Linear(64, 64)])
            self.drops = [nn.Dropout(0.2), nn.Dropout(0.2)]
            self.head = nn.Linear(64, 4)

        def forward(self, x):
            for layer, drop in zip(self.layers, self.drops, strict=True):
                x = drop(F.relu(layer(x)))
            return self.head(x)

    return classification(Net(), clusters())


@fault("eval-mode-ignored")
def dropout_made_in_forward():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(20, 64), nn.Linear(64, 4)

        def forward(self, x):
            return self.b(nn.Dropout(0.3)(F.relu(self.a(x))))

    return classification(Net(), clusters())


@fault("eval-mode-ignored")
def a_train_method_that_forgets_the_mode():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.3))
            self.head = nn.Linear(64, 4)

        def forward(self, x):
            return self.head(self.backbone(x))

        def train(self, mode=True):
            super().train()
            return self

    return classification(Net(), clusters())


@fault("eval-mode-ignored")
def a_forward_that_switches_to_training():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 4))

        def forward(self, x):
            self.train()
            return self.net(x)

    return classification(Net(), clusters())


# ---- too little data ----


def few(model, make, optimizer, loss_fn=None, *, samples=64, batch=32):
    train, test = loaders(make, samples, 512, batch)
    return Target(model, train, test, loss_fn or nn.CrossEntropyLoss(), optimizer)


@fault("overfitting")
def forty_samples_with_noisy_targets_and_a_large_network():
    model = mlp([10, 256, 256, 1])
    noisy = changed(smooth_function(), lambda x, y: (x, y + torch.randn_like(y)))
    return few(model, noisy, torch.optim.Adam(model.parameters(), lr=3e-3), nn.MSELoss(), samples=40, batch=20)


@fault("overfitting")
def ninety_texts_and_an_embedding_of_every_word():
    """One word in eight has to do with the class; each of the others occurs but once or twice."""

    def make(n):
        y = torch.randint(0, 2, (n,))
        rare, telling = torch.randint(100, 2000, (n, 30)), torch.randint(0, 50, (n, 30)) + 50 * y[:, None]
        return torch.where(torch.rand(n, 30) < 0.12, telling, rare), y

    model = nn.Sequential(nn.EmbeddingBag(2000, 32), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 2))
    return few(model, make, torch.optim.Adam(model.parameters(), lr=1e-2), samples=96)


@fault("overfitting")
def patients_whose_disease_shows_only_faintly():
    direction = F.normalize(torch.randn(20), dim=0)

    def make(n):
        y = (torch.rand(n, 1) < 0.5).float()
        return torch.randn(n, 20) + 0.8 * (2 * y - 1) * direction, y

    model = mlp([20, 256, 256, 1])
    return few(model, make, torch.optim.Adam(model.parameters(), lr=3e-3), nn.BCEWithLogitsLoss())


# ---- labels that nothing tells ----


def relabelled(make):
    """The labels of other samples."""
    return changed(make, lambda x, y: (x, y[torch.randperm(len(y))]))


@fault("uninformative-labels")
def clusters_with_shuffled_labels():
    return classification(mlp([20, 64, 64, 4]), relabelled(clusters()))


@fault("uninformative-labels")
def images_joined_to_the_labels_of_others():
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(16 * 16, 4)
    )
    return classification(model, changed(images(), lambda x, y: (x.roll(1, 0), y)))


@fault("uninformative-labels")
def regression_whose_targets_were_sorted():
    make = changed(smooth_function(), lambda x, y: (x, y.sort(0).values))
    return classification(mlp([10, 64, 64, 1]), make, loss_fn=nn.MSELoss())


# ---- weight decay ----


@fault("weight-decay-dominates")
def sgd_with_a_weight_decay_of_five():
    model = mlp([20, 64, 64, 4])
    return classification(model, clusters(), torch.optim.SGD(model.parameters(), lr=0.05, weight_decay=5.0))


@fault("weight-decay-dominates")
def adam_with_a_decay_meant_for_adamw_at_its_largest():
    model = mlp([20, *[64] * 4, 4])
    return classification(model, clusters(), torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1.0))


@fault("weight-decay-dominates")
def regression_with_adamw_and_a_decay_of_fifty():
    model = mlp([10, 64, 64, 1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=50.0)
    return classification(model, smooth_function(), optimizer, nn.MSELoss())


# ---- precision ----


def in_precision(make, dtype):
    return changed(make, lambda x, y: (x.to(dtype), y))


def cross_entropy(scale=1.0):
    return lambda out, y: F.cross_entropy(out.float(), y) * scale


@fault("low-precision")
def float16_with_a_loss_divided_by_the_steps_of_an_epoch():
    model = mlp([20, 64, 64, 4]).half()
    optimizer = torch.optim.SGD(model.parameters(), lr=2e4, momentum=0.9)
    return classification(model, in_precision(clusters(), torch.float16), optimizer, cross_entropy(1e-6))


@fault("low-precision")
def float16_cnn_with_a_loss_averaged_twice():
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 64, 4)
    ).half()
    optimizer = torch.optim.SGD(model.parameters(), lr=2e4, momentum=0.9)
    return classification(model, in_precision(images(), torch.float16), optimizer, cross_entropy(1e-6))


@fault("low-precision")
def float16_regression_weighted_by_the_size_of_the_data_set():
    model = mlp([10, 64, 64, 1], nn.Tanh).half()
    optimizer = torch.optim.SGD(model.parameters(), lr=6e4, momentum=0.9)
    make = changed(smooth_function(), lambda x, y: (x.half(), y))
    return classification(model, make, optimizer, lambda out, y: F.mse_loss(out.float(), y) * 2e-7)


# ---- through time ----


def first_step_decides(length=60):
    """The class is told by the first step alone; what follows is noise."""

    def make(n):
        y = torch.randint(0, 3, (n,))
        x = torch.randn(n, length, 3) * 0.5
        x[:, 0] += 3 * F.one_hot(y, 3)
        return x, y

    return make


class LastState(nn.Module):
    def __init__(self, rnn, width, classes=3):
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(width, classes)

    def forward(self, x):
        return self.head(self.rnn(x)[0][:, -1])


@fault("vanishing-through-time")
def rnn_that_should_remember_the_first_of_sixty_steps():
    return classification(LastState(nn.RNN(3, 32, batch_first=True), 32), first_step_decides())


@fault("vanishing-through-time")
def two_layer_rnn_over_a_hundred_steps():
    return classification(LastState(nn.RNN(3, 24, num_layers=2, batch_first=True), 24), first_step_decides(100))


@fault("vanishing-through-time")
def lstm_whose_forget_gate_starts_closed():
    rnn = nn.LSTM(3, 32, batch_first=True)
    with torch.no_grad():
        rnn.bias_hh_l0[32:64] = -4.0
    return classification(LastState(rnn, 32), first_step_decides(40))


# ---- what belongs to the model, the loss and the schedule ----


@fault("unregistered-module")
def gain_that_is_no_parameter():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(20, 64), nn.Linear(64, 4)
            self.gain = torch.ones(64, requires_grad=True)

        def forward(self, x):
            return self.head(F.relu(self.body(x)) * self.gain)

    return classification(Net(), clusters())


@fault("not-optimized")
def centres_that_the_optimizer_lacks():
    """Class centres that belong to the loss."""

    class CentreLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.centres = nn.Parameter(3 * torch.randn(4, 16))

        def forward(self, embedding, labels):
            return F.cross_entropy(-torch.cdist(embedding, self.centres), labels)

    model = mlp([20, 64, 16])
    return classification(model, clusters(), sgd(model), CentreLoss())


@fault("learning-rate-too-low")
def warm_up_by_an_integer_division():
    model = mlp([20, 64, 64, 4])
    optimizer = sgd(model)
    target = classification(model, clusters(), optimizer)
    model.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1, (step + 1) // 500))
    return target


@fault("loss-broadcast")
def values_of_actions_against_a_row_of_rewards():
    """The commonest mistake of Q-learning: gather keeps its column."""
    values, worth = mlp([8, 64, 3]), torch.randn(8, 3)

    def make(n):
        state, action = torch.randn(n, 8), torch.randint(0, 3, (n,))
        return state, action, (state @ worth).gather(1, action[:, None])[:, 0] + 0.1 * torch.randn(n)

    def step(model, batch):
        state, action, reward = batch
        return (model(state).gather(1, action[:, None]) - reward).square().mean()

    train, test = loaders(make)
    optimizer = torch.optim.Adam(values.parameters(), 3e-3)
    return Target(values, train, test, optimizer=optimizer, training_step=step)


@fault("wrong-output-activation")
def cosines_without_a_temperature():
    class Prototypes(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.prototypes = mlp([20, 64, 32]), nn.Parameter(torch.randn(4, 32))

        def forward(self, x):
            return F.normalize(self.body(x)) @ F.normalize(self.prototypes).T

    return classification(Prototypes(), clusters())


# ---- loops over a cell ----


class StepByStep(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.cell, self.head, self.between = nn.GRUCell(1, 32), nn.Linear(32, 1), between

    def forward(self, x):
        h = torch.zeros(len(x), 32)
        for t in range(x.shape[1]):
            h = self.cell(x[:, t], self.between(h))
        return self.head(h)[:, 0]


@fault("vanishing-through-time")
def state_that_is_detached_at_every_step():
    def make(n):
        x = torch.randn(n, 12, 1)
        return x, x.sum((1, 2)) / 12**0.5

    return classification(StepByStep(lambda h: h.detach()), make, loss_fn=nn.MSELoss())


@fault("exploding-gradient")
def recurrent_weights_that_double_the_state():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.RNN(1, 32, batch_first=True, nonlinearity="relu"), nn.Linear(32, 1)
            with torch.no_grad():
                self.rnn.weight_hh_l0.copy_(2 * torch.eye(32))

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])[:, 0]

    def make(n):
        x = torch.randn(n, 24, 1)
        return x, x.sum((1, 2)) / 24**0.5

    model = Net()
    return classification(model, make, sgd(model, 0.01), nn.MSELoss())


# ---- evaluation mode ----


def normed(norm):
    return nn.Sequential(nn.Linear(20, 64), norm, nn.Tanh(), nn.Linear(64, 4))


@fault("train-eval-gap")
def momentum_of_a_thousandth():
    """As it is written where momentum is what is kept of the old statistics."""
    return classification(normed(nn.BatchNorm1d(64, momentum=0.001)), changed(clusters(), lambda x, y: (20 + 3 * x, y)))


@fault("train-eval-gap")
def norm_of_ones_own_that_keeps_no_statistics():
    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", torch.zeros(64))
            self.register_buffer("variance", torch.ones(64))

        def forward(self, x):
            mean, variance = (x.mean(0), x.var(0)) if self.training else (self.mean, self.variance)
            return (x - mean) / (variance + 1e-5).sqrt()

    return classification(normed(Norm()), changed(clusters(), lambda x, y: (20 + 3 * x, y)))
