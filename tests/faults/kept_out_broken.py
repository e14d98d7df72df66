"""The kept-out programs with one fault each, the rules that may name its cause, and the program it was made from."""

from __future__ import annotations

import copy
import math

import kept_out_bases as kept
import torch
from kept_out_bases import adam
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

KEPT_OUT_BROKEN = {}


def fault(healthy, *causes):
    """Made from the program `healthy`; `causes` are the rules that a fair reader accepts as its name."""

    def register(make):
        KEPT_OUT_BROKEN[make.__name__] = (make, causes, healthy.__name__)
        return make

    return register


def sgd(rate, momentum=0.9):
    return lambda model, lr: torch.optim.SGD(model.parameters(), lr=rate, momentum=momentum)


def at_rate(target, factor):
    """The target with every learning rate multiplied."""
    optimizers = target.optimizer if isinstance(target.optimizer, list) else [target.optimizer]
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["lr"] *= factor
    return target


# ---- gradient flow ----


@fault(kept.ordinal_grades, "vanishing-gradient")
def grades_through_ten_sigmoid_layers():
    return kept.ordinal_grades(10, nn.Sigmoid, sgd(0.1))


@fault(kept.autoencoder_with_a_tanh_output, "vanishing-gradient", "bad-initialization")
def deep_autoencoder_with_small_weights():
    layers = [nn.Linear(144, 96), nn.Tanh()]
    for width, after in ((96, 64), (64, 32), (32, 16), (16, 32), (32, 64), (64, 96)):
        layers += [nn.Linear(width, after), nn.Tanh()]
    return kept.autoencoder_with_a_tanh_output(layers[:-1], std=0.02)


@fault(kept.one_dimensional_cnn_on_heartbeats, "vanishing-gradient")
def heartbeats_through_twelve_sigmoid_convolutions():
    layers = []
    for i in range(12):
        layers += [nn.Conv1d(2 if i == 0 else 32, 32, 5, padding=2), nn.Sigmoid()]
    return kept.one_dimensional_cnn_on_heartbeats(layers, optimizer=sgd(0.05))


@fault(kept.selu_network_with_alpha_dropout, "vanishing-gradient", "bad-initialization")
def selu_network_with_weights_of_a_thousandth():
    return kept.selu_network_with_alpha_dropout(std=1e-3)


@fault(kept.selu_network_with_alpha_dropout, "exploding-gradient", "bad-initialization", "exploding-activation")
def relu_network_with_standard_normal_weights():
    return kept.selu_network_with_alpha_dropout(activation=nn.ReLU(), std=1.0)


@fault(kept.orthogonal_rnn_that_remembers, "exploding-gradient", "exploding-activation", "bad-initialization")
def relu_rnn_whose_state_doubles():
    rnn = nn.RNN(4, 32, batch_first=True, nonlinearity="relu")
    nn.init.eye_(rnn.weight_hh_l0)
    rnn.weight_hh_l0.data *= 2
    target = kept.orthogonal_rnn_that_remembers(rnn)
    target.optimizer = sgd(0.02)(target.model, 0)
    return target


@fault(kept.gru_that_translates, "no-gradient")
def translation_whose_encoder_is_detached():
    return kept.gru_that_translates(cut=True)


@fault(kept.transformer_with_a_padding_mask, "no-gradient")
def transformer_whose_embedding_runs_under_no_grad():
    return kept.transformer_with_a_padding_mask(frozen_by_mistake=True)


@fault(kept.experts_with_a_balancing_loss, "no-gradient")
def experts_chosen_by_argmax():
    return kept.experts_with_a_balancing_loss(lambda out, y: F.cross_entropy(out[0], y), hard=True)


@fault(kept.vector_quantized_autoencoder, "no-gradient")
def quantizer_without_a_straight_through_gradient():
    return kept.vector_quantized_autoencoder(straight_through=False, commitment=False)


@fault(kept.groupnorm_resnet, "no-gradient")
def resnet_that_makes_a_shortcut_and_forgets_it():
    return kept.groupnorm_resnet(forgets_shortcut=True)


@fault(kept.two_tasks_with_dicts, "no-gradient")
def second_task_that_the_loss_forgets():
    return kept.two_tasks_with_dicts(lambda out, y: F.cross_entropy(out["kind"], y["kind"]))


@fault(kept.one_dimensional_cnn_on_heartbeats, "dead-units", "no-gradient")
def heartbeats_with_biases_of_minus_eight():
    return kept.one_dimensional_cnn_on_heartbeats(bias=-8.0)


@fault(kept.poisson_counts, "dead-units", "no-gradient")
def counts_through_a_layer_that_never_fires():
    return kept.poisson_counts(bias=-7.0)


@fault(kept.convolutional_autoencoder_with_a_sigmoid, "dead-units", "no-gradient")
def autoencoder_with_a_dead_bottleneck():
    return kept.convolutional_autoencoder_with_a_sigmoid(bias=-5.0)


@fault(kept.autoencoder_with_a_tanh_output, "saturated-activation", "bad-initialization")
def tanh_autoencoder_with_weights_of_two():
    return kept.autoencoder_with_a_tanh_output(std=2.0)


@fault(kept.deep_equilibrium_with_shared_weights, "saturated-activation", "bad-initialization")
def equilibrium_with_a_gain_of_forty():
    return kept.deep_equilibrium_with_shared_weights(gain=40.0)


@fault(kept.variational_autoencoder_of_bits, "non-finite")
def root_of_an_unbounded_output_as_deviation():
    return kept.variational_autoencoder_of_bits(spread=torch.sqrt)


@fault(kept.graph_convolution_on_molecules, "non-finite")
def adjacency_divided_by_degrees_of_zero():
    return kept.graph_convolution_on_molecules(self_loops=False)


@fault(kept.signatures_that_are_genuine_or_forged, "non-finite")
def distance_of_a_sample_to_itself():
    return kept.signatures_that_are_genuine_or_forged(root=torch.sqrt, same_at=0)


@fault(kept.mixture_density_of_an_inverse_problem, "non-finite")
def mixture_with_scales_that_may_be_negative():
    return kept.mixture_density_of_an_inverse_problem(scale=lambda s: s)


@fault(kept.survival_with_a_cox_loss, "non-finite", "unnormalized-input")
def risks_that_overflow_before_their_logarithm():
    def loss_fn(log_risk, time, event):
        order = time.argsort(descending=True)
        log_risk, event = log_risk[order, 0], event[order]
        return -((log_risk - log_risk.exp().cumsum(0).log()) * event).sum() / event.sum().clamp_min(1)

    return kept.survival_with_a_cox_loss(loss_fn, change=lambda x, time, event: (x * 400, time, event))


@fault(kept.orthogonal_rnn_that_remembers, "vanishing-through-time")
def rnn_with_small_recurrent_weights():
    rnn = nn.RNN(4, 32, batch_first=True)
    nn.init.normal_(rnn.weight_hh_l0, std=0.05)
    return kept.orthogonal_rnn_that_remembers(rnn, length=40)


@fault(kept.orthogonal_rnn_that_remembers, "vanishing-through-time")
def default_rnn_over_eighty_steps():
    return kept.orthogonal_rnn_that_remembers(nn.RNN(4, 32, batch_first=True), length=80)


@fault(kept.batchnorm_cnn_with_augmentation, "noisy-gradient", "learning-rate-too-high", "train-eval-gap")
def cnn_on_batches_of_two_at_a_hot_rate():
    return kept.batchnorm_cnn_with_augmentation(batch=2, lr=0.3)


@fault(kept.mixture_density_of_an_inverse_problem, "noisy-gradient", "learning-rate-too-high")
def mixture_density_from_batches_of_one():
    return kept.mixture_density_of_an_inverse_problem(batch=1, optimizer=lambda m, lr: adam(m, 0.1))


@fault(kept.graph_convolution_on_molecules, "rank-collapse", "vanishing-gradient")
def graph_convolutions_that_smooth_everything():
    return kept.graph_convolution_on_molecules(depth=20)


@fault(kept.vision_transformer_with_a_class_token, "rank-collapse", "vanishing-gradient")
def attention_stack_without_residuals():
    class Only(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    target = kept.vision_transformer_with_a_class_token()
    target.model.blocks = nn.ModuleList(Only() for _ in range(8))
    target.optimizer = torch.optim.AdamW(target.model.parameters(), lr=2e-3)
    return target


@fault(kept.neural_differential_equation, "exploding-activation", "exploding-gradient")
def euler_without_its_step_size():
    def optimizer(model, lr):
        for layer in (model.f[0], model.f[2]):
            nn.init.kaiming_normal_(layer.weight)
        return adam(model, lr)

    return kept.neural_differential_equation(optimizer, steps=20, size=1.0, activation=nn.ReLU())


@fault(kept.batchnorm_cnn_with_augmentation, "exploding-activation", "exploding-gradient", "bad-initialization")
def residual_sums_without_norm_or_scale():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(16, 16, 3, padding=1)
            nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

        def forward(self, x):
            return x + self.conv(F.relu(x))

    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2), *[Block() for _ in range(20)], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)
    )
    return kept.batchnorm_cnn_with_augmentation(model=model)


# ---- optimisation ----


@fault(kept.contrastive_views, "not-optimized")
def contrast_whose_projection_is_not_optimized():
    return kept.contrastive_views(lambda model: model.encoder.parameters())


@fault(kept.recommender_with_two_optimizers, "not-optimized")
def recommender_whose_embeddings_have_no_optimizer():
    return kept.recommender_with_two_optimizers(sparse=False)


@fault(kept.adapters_on_a_pretrained_transformer, "not-optimized")
def adapters_put_in_after_the_optimizer():
    return kept.adapters_on_a_pretrained_transformer(early_optimizer=True)


@fault(kept.churn_with_embedded_categories, "not-optimized")
def optimizer_of_a_copy_of_the_model():
    target = kept.churn_with_embedded_categories()
    target.optimizer = torch.optim.AdamW(copy.deepcopy(target.model).parameters(), lr=3e-3)
    return target


@fault(kept.transformer_with_a_padding_mask, "not-optimized")
def embedding_enlarged_after_the_optimizer():
    target = kept.transformer_with_a_padding_mask()
    target.model.embed = nn.Embedding(80, 32)
    target.model.head = nn.Linear(32, 2)
    return target


@fault(kept.unet_with_a_dice_loss, "parameter-unchanged", "learning-rate-too-low")
def encoder_in_a_group_with_rate_zero():
    target = kept.unet_with_a_dice_loss()
    encoder = [*target.model.down1.parameters(), *target.model.down2.parameters()]
    others = [p for p in target.model.parameters() if all(p is not q for q in encoder)]
    target.optimizer = torch.optim.Adam([{"params": encoder, "lr": 0.0}, {"params": others}], lr=3e-3)
    return target


@fault(kept.hypernetwork_for_curves, "parameter-unchanged", "learning-rate-too-low")
def warmup_by_an_integer_division():
    def optimizer(model, lr):
        made = adam(model, lr)
        torch.optim.lr_scheduler.LambdaLR(made, lambda step: min(1, step // 1000))
        return made

    return kept.hypernetwork_for_curves(optimizer)


@fault(kept.convnext_with_layer_scale, "learning-rate-too-high")
def convnext_at_three_hundred_times_the_rate():
    return kept.convnext_with_layer_scale(lr=1.2)


@fault(kept.transformer_with_a_padding_mask, "learning-rate-too-high")
def transformer_at_three_hundred_times_the_rate():
    return kept.transformer_with_a_padding_mask(lr=0.6)


@fault(kept.lstm_on_packed_sequences, "learning-rate-too-high")
def lstm_at_three_hundred_times_the_rate():
    return kept.lstm_on_packed_sequences(lr=1.5)


@fault(kept.poisson_counts, "learning-rate-too-high")
def counts_at_three_hundred_times_the_rate():
    return kept.poisson_counts(lr=0.9)


@fault(kept.selu_network_with_alpha_dropout, "learning-rate-too-high")
def selu_network_at_three_hundred_times_the_rate():
    return kept.selu_network_with_alpha_dropout(lr=6.0)


@fault(kept.unet_with_a_dice_loss, "learning-rate-too-low")
def unet_at_a_hundred_thousandth_of_the_rate():
    return kept.unet_with_a_dice_loss(lr=3e-8)


@fault(kept.normalizing_flow_of_a_bent_density, "learning-rate-too-low")
def flow_at_a_hundred_thousandth_of_the_rate():
    return at_rate(kept.normalizing_flow_of_a_bent_density(), 1e-5)


@fault(kept.deep_sets, "learning-rate-too-low")
def sets_with_sgd_at_a_millionth():
    target = kept.deep_sets()
    target.optimizer = torch.optim.SGD(target.model.parameters(), lr=1e-6)
    return target


@fault(kept.quantiles_of_house_prices, "oscillating-loss", "learning-rate-too-high")
def quantiles_with_too_much_momentum():
    return kept.quantiles_of_house_prices(optimizer=sgd(0.3, 0.99))


@fault(kept.autoencoder_with_a_tanh_output, "learning-rate-too-high", "saturated-activation")
def autoencoder_with_rmsprop_at_a_tenth():
    return kept.autoencoder_with_a_tanh_output(optimizer=lambda m, lr: torch.optim.RMSprop(m.parameters(), lr=0.1))


@fault(kept.neural_differential_equation, "oscillating-loss", "learning-rate-too-high")
def differential_equation_whose_loss_swings():
    return kept.neural_differential_equation(sgd(0.2))


@fault(kept.batchnorm_cnn_with_augmentation, "weight-decay-dominates")
def cnn_with_a_weight_decay_of_ten():
    return kept.batchnorm_cnn_with_augmentation(decay=10.0)


@fault(kept.ordinal_grades, "weight-decay-dominates")
def grades_with_a_weight_decay_of_three():
    return kept.ordinal_grades(
        optimizer=lambda m, lr: torch.optim.SGD(m.parameters(), lr=0.05, momentum=0.9, weight_decay=3.0)
    )


@fault(kept.hypernetwork_for_curves, "weight-decay-dominates")
def hypernetwork_with_adamw_and_a_decay_of_ten():
    return kept.hypernetwork_for_curves(lambda m, lr: torch.optim.AdamW(m.parameters(), lr=lr, weight_decay=10.0))


@fault(kept.student_of_a_teacher, "sum-reduction", "learning-rate-too-high")
def distillation_summed_over_the_batch():
    def distill(out, y, soft):
        soft_loss = F.kl_div((out / 3).log_softmax(1), soft, reduction="sum")
        return 9 * soft_loss + F.cross_entropy(out, y, reduction="sum")

    return kept.student_of_a_teacher(distill, optimizer=sgd(0.05))


@fault(kept.mean_and_variance_regression, "sum-reduction", "learning-rate-too-high")
def log_likelihood_summed_over_the_batch():
    target = kept.mean_and_variance_regression(lambda out, y: F.gaussian_nll_loss(out[0], y, out[1], reduction="sum"))
    target.optimizer = sgd(0.02)(target.model, 0)
    return target


# ---- initialisation ----


@fault(kept.rare_disease_with_a_positive_weight, "initial-loss", "bad-initialization")
def last_bias_with_the_odds_of_another_data_set():
    target = kept.rare_disease_with_a_positive_weight()
    nn.init.constant_(target.model[-1].bias, 12.0)
    return target


@fault(kept.tied_language_model_with_warmup, "initial-loss", "bad-initialization")
def tied_embedding_with_standard_normal_weights():
    target = kept.tied_language_model_with_warmup()
    nn.init.normal_(target.model.embed.weight, std=2.0)
    return target


@fault(kept.film_conditioned_on_a_question, "initial-loss", "bad-initialization")
def head_with_standard_normal_weights():
    target = kept.film_conditioned_on_a_question()
    nn.init.normal_(target.model.head[1].weight, std=3.0)
    return target


@fault(kept.churn_with_embedded_categories, "symmetric-initialization")
def churn_with_constant_weights():
    target = kept.churn_with_embedded_categories()
    for module in target.model.modules():
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.weight, 0.02)
            nn.init.zeros_(module.bias)
    return target


@fault(kept.word_vectors_with_negative_samples, "symmetric-initialization", "no-gradient")
def word_vectors_that_start_at_zero():
    return kept.word_vectors_with_negative_samples(zero=True)


@fault(kept.convolutional_autoencoder_with_a_sigmoid, "symmetric-initialization", "no-gradient")
def convolutions_that_start_at_zero():
    target = kept.convolutional_autoencoder_with_a_sigmoid()
    for parameter in target.model.parameters():
        nn.init.zeros_(parameter)
    return target


@fault(kept.gru_that_translates, "symmetric-initialization")
def translation_with_constant_weights():
    target = kept.gru_that_translates()
    for module in (target.model.encoder, target.model.decoder, target.model.head):
        for parameter in module.parameters():
            nn.init.constant_(parameter, 0.05)
    return target


@fault(kept.vision_transformer_with_a_class_token, "bad-initialization", "initial-loss", "exploding-activation")
def vision_transformer_with_standard_normal_weights():
    target = kept.vision_transformer_with_a_class_token()
    for parameter in target.model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter)
    return target


@fault(kept.one_dimensional_cnn_on_heartbeats, "bad-initialization", "vanishing-gradient")
def convolutions_with_weights_of_a_thousandth():
    layers = []
    for i in range(5):
        layers += [nn.Conv1d(2 if i == 0 else 32, 32, 5, padding=2), nn.ReLU()]
    return kept.one_dimensional_cnn_on_heartbeats(layers, std=1e-3, optimizer=sgd(0.02))


# ---- model and loss ----


@fault(kept.vision_transformer_with_a_class_token, "unregistered-module")
def transformer_blocks_in_a_list():
    return kept.vision_transformer_with_a_class_token(container=list)


@fault(kept.experts_with_a_balancing_loss, "unregistered-module")
def experts_in_a_tuple():
    return kept.experts_with_a_balancing_loss(container=tuple)


@fault(kept.two_tasks_with_dicts, "unregistered-module")
def heads_of_tasks_in_a_dict():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Linear(15, 64), nn.GELU())
            self.heads = {"kind": nn.Linear(64, 4), "age": nn.Linear(64, 1)}

        def forward(self, x):
            h = self.body(x)
            return {"kind": self.heads["kind"](h), "age": self.heads["age"](h)[:, 0]}

    return kept.two_tasks_with_dicts(model=Net())


@fault(kept.convnext_with_layer_scale, "redundant-softmax")
def convnext_with_a_softmax():
    return kept.convnext_with_layer_scale(softmax=True)


@fault(kept.tied_language_model_with_warmup, "redundant-softmax")
def language_model_with_a_softmax_over_words():
    return kept.tied_language_model_with_warmup(softmax=True)


@fault(kept.churn_with_embedded_categories, "redundant-softmax", "wrong-output-activation")
def churn_with_a_sigmoid_before_logits():
    return kept.churn_with_embedded_categories(last=nn.Sigmoid())


@fault(kept.churn_with_embedded_categories, "wrong-output-activation")
def relu_on_the_only_score():
    return kept.churn_with_embedded_categories(last=nn.ReLU())


@fault(kept.transformer_with_a_padding_mask, "wrong-output-activation")
def sigmoid_on_two_scores():
    return kept.transformer_with_a_padding_mask(last=nn.Sigmoid())


@fault(kept.orthogonal_rnn_that_remembers, "wrong-output-activation")
def negative_log_likelihood_of_plain_scores():
    return kept.orthogonal_rnn_that_remembers(loss_fn=nn.NLLLoss())


@fault(kept.vision_transformer_with_a_class_token, "wrong-output-activation")
def negative_log_likelihood_of_probabilities():
    return kept.vision_transformer_with_a_class_token(last=nn.Softmax(-1), loss_fn=nn.NLLLoss())


@fault(kept.student_of_a_teacher, "wrong-output-activation")
def divergence_from_probabilities_that_should_be_logarithms():
    def distill(out, y, soft):
        return 9 * F.kl_div((out / 3).softmax(1), soft, reduction="batchmean")

    return kept.student_of_a_teacher(distill)


@fault(kept.tags_of_questions, "wrong-output-activation", "redundant-softmax")
def softmax_over_tags_that_come_together():
    return kept.tags_of_questions(last=nn.Softmax(1), loss_fn=nn.BCELoss())


@fault(kept.deep_sets, "wrong-output-activation")
def counts_that_a_relu_cannot_reach():
    return kept.deep_sets(last=nn.ReLU())


@fault(kept.denoising_diffusion_of_points, "wrong-output-activation", "saturated-activation")
def noise_through_a_sigmoid():
    return kept.denoising_diffusion_of_points(last=nn.Sigmoid())


@fault(kept.poisson_counts, "wrong-output-activation", "non-finite")
def poisson_rate_that_may_be_negative():
    target = kept.poisson_counts()
    target.loss_fn = lambda rate, count: (rate - count * torch.log(rate)).mean()
    return target


@fault(kept.mean_and_variance_regression, "loss-broadcast")
def column_of_means_against_a_row_of_targets():
    def loss_fn(out, y):
        return (0.5 * (out[0] - y).square() / out[1] + 0.5 * out[1].log()).mean()

    return kept.mean_and_variance_regression(loss_fn, column=False)


@fault(kept.quantiles_of_house_prices, "loss-broadcast")
def row_of_quantiles_against_a_column_of_prices():
    return kept.quantiles_of_house_prices(change=kept.as_column)


@fault(kept.deep_q_learning, "loss-broadcast")
def values_of_actions_against_a_row_of_goals():
    return kept.deep_q_learning(column=True)


@fault(kept.unet_with_a_dice_loss, "loss-broadcast")
def masks_without_their_channel():
    def loss_fn(out, y):
        p = out.sigmoid()
        dice = 1 - (2 * (p * y).sum() + 1) / (p.square().sum() + y.square().sum() + 1)
        return dice + (p - y).square().mean()

    return kept.unet_with_a_dice_loss(loss_fn, change=lambda x, y: (x, y[:, 0]))


@fault(kept.vision_transformer_with_a_class_token, "batch-leakage")
def attention_that_takes_the_batch_for_a_sequence():
    return kept.vision_transformer_with_a_class_token(batch_first=False)


@fault(kept.lstm_on_packed_sequences, "batch-leakage")
def sequences_sorted_by_length_and_left_so():
    return kept.lstm_on_packed_sequences(restores_order=False)


@fault(kept.groupnorm_resnet, "batch-leakage")
def features_normalized_over_the_batch():
    return kept.groupnorm_resnet(normalized=0)


@fault(kept.transformer_with_a_padding_mask, "batch-leakage")
def pooling_weights_that_sum_over_the_batch():
    return kept.transformer_with_a_padding_mask(pools_over=0)


@fault(kept.rare_disease_with_a_positive_weight, "batch-leakage")
def table_standardised_by_the_batch_at_hand():
    class Standardise(nn.Module):
        def forward(self, x):
            return (x - x.mean(0)) / (x.std(0, correction=0) + 1e-6)

    layers = nn.Sequential(Standardise(), nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 1))
    return kept.rare_disease_with_a_positive_weight(layers=layers)


@fault(kept.tied_language_model_with_warmup, "causal-leakage")
def language_model_whose_mask_is_forgotten():
    return kept.tied_language_model_with_warmup(mask=None)


@fault(kept.tied_language_model_with_warmup, "causal-leakage")
def language_model_whose_mask_is_inverted():
    """True means hidden for torch's attention: each word sees only those that follow."""
    return kept.tied_language_model_with_warmup(mask=lambda n: torch.ones(n, n, dtype=torch.bool).tril())


@fault(kept.temporal_convolution_with_weight_norm, "causal-leakage")
def convolution_that_cuts_the_wrong_end():
    return kept.temporal_convolution_with_weight_norm(cuts_the_end=False)


@fault(kept.gru_that_translates, "causal-leakage")
def decoder_that_reads_in_both_directions():
    return kept.gru_that_translates(looks_ahead=True)


@fault(kept.one_dimensional_cnn_on_heartbeats, "input-ignored")
def heartbeats_that_are_overwritten():
    class Clean(nn.Module):
        """Keeps what is above the noise, or would: the mask is applied to itself."""

        def forward(self, x):
            noise = torch.zeros_like(x)
            return noise.clamp(-3, 3)

    layers = [Clean(), nn.Conv1d(2, 32, 7, 2), nn.ReLU(), nn.Conv1d(32, 32, 5, 2), nn.ReLU()]
    return kept.one_dimensional_cnn_on_heartbeats(layers)


@fault(kept.masked_language_model, "input-ignored")
def language_model_that_embeds_positions_twice():
    class Net(kept.MaskedLanguageModel):
        def forward(self, x):
            places = torch.arange(x.shape[1]).expand_as(x)
            return self.head(self.norm(self.blocks(self.embed(places) + self.position(places))))

    target = kept.masked_language_model()
    target.model = Net()
    target.optimizer = torch.optim.AdamW(target.model.parameters(), lr=5e-3)
    return target


@fault(kept.tags_of_questions, "input-ignored")
def bag_of_words_that_keeps_only_the_padding():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.out = nn.Embedding(80, 32), nn.Linear(32, 6)

        def forward(self, words):
            kept_words = torch.where(words > 0, 0, words)
            return self.out(F.relu(self.embed(kept_words).mean(1)))

    return kept.tags_of_questions(model=Net())


@fault(kept.selu_network_with_alpha_dropout, "no-nonlinearity")
def network_with_identities_for_activations():
    return kept.selu_network_with_alpha_dropout(depth=3, activation=nn.Identity())


@fault(kept.hypernetwork_for_curves, "no-nonlinearity")
def sets_whose_layers_are_all_linear():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(10, 64), nn.Linear(64, 64), nn.Dropout(0.05), nn.Linear(64, 8))

        def forward(self, task, x):
            return self.net(torch.cat([task, x], 1))

    target = kept.hypernetwork_for_curves()
    target.model = Net()
    target.optimizer = adam(target.model, 5e-3)
    return target


@fault(kept.film_conditioned_on_a_question, "no-nonlinearity")
def convolutions_without_an_activation():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 16, 3, 2), nn.Conv2d(16, 24, 3)
            self.question, self.head = nn.Embedding(2, 16), nn.Linear(24 * 16 + 16, 4)

        def forward(self, image, question):
            h = self.conv2(self.conv1(image)).flatten(1)
            return self.head(torch.cat([h, self.question(question)], 1))

    return kept.film_conditioned_on_a_question(Net())


# ---- data ----


def columns_in_their_units(codes, numbers, y):
    """Age, income, balance, months, calls and the share of late payments."""
    scale, offset = torch.tensor([15.0, 3e4, 2e5, 20, 6, 0.1]), torch.tensor([45.0, 6e4, 1e5, 40, 8, 0.2])
    return codes, numbers * scale + offset, y


@fault(kept.churn_with_embedded_categories, "unnormalized-input")
def churn_with_incomes_in_dollars():
    return kept.churn_with_embedded_categories(change=columns_in_their_units)


@fault(kept.film_conditioned_on_a_question, "unnormalized-input")
def coloured_images_of_bytes():
    def as_bytes(x, question, y):
        return ((x * 0.4 + 0.3) * 160).clamp(0, 255).round(), question, y

    return kept.film_conditioned_on_a_question(change=as_bytes, optimizer=sgd(0.02))


@fault(kept.one_dimensional_cnn_on_heartbeats, "unnormalized-input")
def heartbeats_in_volts():
    """The leads are in microvolts at heart."""
    return kept.one_dimensional_cnn_on_heartbeats(change=lambda x, y: (x * 1e-5, y))


@fault(kept.forecast_from_a_stream, "unnormalized-input", "unnormalized-target", "saturated-activation")
def forecast_in_megawatts():
    return kept.forecast_from_a_stream(scale=4000.0, offset=30000.0)


@fault(kept.quantiles_of_house_prices, "unnormalized-target")
def quantiles_in_dollars():
    return kept.quantiles_of_house_prices(change=lambda x, y: (x, y * 9e4 + 3e5))


@fault(kept.two_tasks_with_dicts, "unnormalized-target")
def ages_in_days_beside_a_class():
    return kept.two_tasks_with_dicts(age=lambda a: a * 6000 + 16000)


@fault(kept.deep_q_learning, "unnormalized-target")
def rewards_in_points_of_the_game():
    return kept.deep_q_learning(reward_scale=1e4)


@fault(kept.one_dimensional_cnn_on_heartbeats, "non-finite-input")
def a_lead_that_fell_off():
    def lost(x, y):
        x = x.clone()
        x[:: max(1, len(x) // 30), 1, 20:40] = float("nan")
        return x, y

    return kept.one_dimensional_cnn_on_heartbeats(change=lost)


@fault(kept.churn_with_embedded_categories, "non-finite-input")
def logarithm_of_a_balance_of_zero():
    def logarithms(codes, numbers, y):
        balance = (numbers[:, 2] * 1000).clamp_min(0)
        return codes, torch.cat([numbers[:, :2], balance.log()[:, None], numbers[:, 3:]], 1), y

    return kept.churn_with_embedded_categories(change=logarithms)


@fault(kept.quantiles_of_house_prices, "non-finite-input")
def prices_that_are_missing():
    def missing(x, y):
        return x, torch.where(torch.rand(len(y)) < 0.02, torch.nan, y)

    return kept.quantiles_of_house_prices(change=missing)


@fault(kept.rare_disease_with_a_positive_weight, "class-imbalance")
def one_patient_in_fifty_without_a_weight():
    return kept.rare_disease_with_a_positive_weight(
        rate=0.02, apart=1.5, loss_fn=nn.BCEWithLogitsLoss(), test=3000
    )  # fmt: skip


@fault(kept.batchnorm_cnn_with_augmentation, "class-imbalance")
def mostly_pictures_of_one_shape():
    """Three shapes in a hundred pictures, and those partly covered."""

    def skewed(x, y):
        rows = (y == 0) | (torch.rand(len(y)) < 0.015)
        return (x + 1.2 * torch.randn_like(x))[rows], y[rows]

    return kept.batchnorm_cnn_with_augmentation(train=4800, test=4800, change=skewed, lr=0.01)


def by_label(x, y):
    order = y.argsort()
    return x[order], y[order]


@fault(kept.one_dimensional_cnn_on_heartbeats, "unshuffled-data")
def heartbeats_in_the_order_of_their_diagnosis():
    return kept.one_dimensional_cnn_on_heartbeats(change=by_label, shuffle=False)


@fault(kept.groupnorm_resnet, "unshuffled-data")
def shapes_class_by_class():
    return kept.groupnorm_resnet(change=by_label, shuffle=False)


@fault(kept.tags_of_questions, "duplicate-batches")
def a_sampler_that_is_seeded_for_each_batch():
    target = kept.tags_of_questions()
    data = target.train_data.dataset

    class Seeded:
        def __iter__(self):
            for _ in range(12):
                rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(7))
                yield rows[:64].tolist()

        def __len__(self):
            return 12

    target.train_data = DataLoader(data, batch_sampler=Seeded())
    return target


@fault(kept.poisson_counts, "duplicate-batches")
def a_stream_that_starts_again_for_each_batch():
    target = kept.poisson_counts()
    x, y = target.train_data.dataset.tensors

    class Stream(IterableDataset):
        def __iter__(self):
            for _ in range(20):
                yield x[:64], y[:64]

    target.train_data = DataLoader(Stream(), batch_size=None)
    return target


def shuffled_labels(x, y):
    return x, y[torch.randperm(len(y))]


@fault(kept.batchnorm_cnn_with_augmentation, "uninformative-labels")
def labels_joined_to_the_wrong_pictures():
    return kept.batchnorm_cnn_with_augmentation(change=shuffled_labels)


@fault(kept.lstm_on_packed_sequences, "uninformative-labels")
def labels_sorted_apart_from_their_reviews():
    return kept.lstm_on_packed_sequences(change_labels=lambda y: y[torch.randperm(len(y))])


@fault(kept.deep_equilibrium_with_shared_weights, "uninformative-labels")
def labels_shuffled_against_their_points():
    return kept.deep_equilibrium_with_shared_weights(change=shuffled_labels)


@fault(kept.lstm_on_packed_sequences, "invalid-labels")
def stars_from_one_to_two():
    return kept.lstm_on_packed_sequences(change_labels=lambda y: y + 1)


@fault(kept.masked_language_model, "invalid-labels")
def words_to_ignore_marked_with_minus_one():
    return kept.masked_language_model(ignored=-1)


@fault(
    kept.convolutional_autoencoder_with_a_sigmoid,
    "invalid-labels",
    "wrong-output-activation",
    "unnormalized-input",
    "unnormalized-target",
)
def pixels_of_bytes_for_a_sigmoid():
    """The images went in without the division by 255, and so they are the targets."""
    return kept.convolutional_autoencoder_with_a_sigmoid(change=lambda x, y: (x * 255, y * 255))


# ---- evaluation ----


@fault(kept.one_dimensional_cnn_on_heartbeats, "eval-accuracy", "train-eval-gap")
def test_heartbeats_in_another_unit():
    return kept.one_dimensional_cnn_on_heartbeats(change_test=lambda x, y: (x * 1e-3, y))


@fault(kept.batchnorm_cnn_with_augmentation, "eval-accuracy", "train-eval-gap")
def test_pictures_divided_by_255_twice():
    return kept.batchnorm_cnn_with_augmentation(change_test=lambda x, y: ((x * 0.4 + 0.16) / 255, y))


@fault(kept.vision_transformer_with_a_class_token, "eval-accuracy", "train-eval-gap")
def test_classes_counted_in_another_order():
    """The test loader sorts the folders' names otherwise."""
    target = kept.vision_transformer_with_a_class_token()
    x, y = target.test_data.dataset.tensors
    target.test_data = DataLoader(TensorDataset(x, torch.tensor([2, 0, 4, 1, 3])[y]), 128)
    return target


@fault(kept.selu_network_with_alpha_dropout, "eval-nondeterministic")
def alpha_dropout_that_is_always_on():
    return kept.selu_network_with_alpha_dropout(always_drop=True)


@fault(kept.transformer_with_a_padding_mask, "eval-nondeterministic")
def embedding_dropout_that_is_always_on():
    return kept.transformer_with_a_padding_mask(always_drop=True)


@fault(kept.lstm_on_packed_sequences, "eval-nondeterministic")
def lstm_that_goes_on_where_the_last_batch_ended():
    return kept.lstm_on_packed_sequences(keeps_state=True)


@fault(kept.batchnorm_cnn_with_augmentation, "train-eval-gap")
def running_statistics_that_never_move():
    return kept.batchnorm_cnn_with_augmentation(momentum=0.0, change=lambda x, y: (x * 4 + 3, y))


@fault(kept.batchnorm_cnn_with_augmentation, "train-eval-gap")
def momentum_of_another_framework():
    """0.999 there keeps what 0.001 keeps here; the statistics lag behind."""
    return kept.batchnorm_cnn_with_augmentation(momentum=0.0005, change=lambda x, y: (x * 4 + 3, y))


@fault(kept.unet_with_a_dice_loss, "train-eval-gap")
def unet_whose_norms_follow_one_batch():
    """Momentum 0.99 as in another framework, with batches of two from scanners of different brightness."""

    def scanners(x, y):
        sites = torch.arange(len(x)) // 16 % 4
        offset = torch.tensor([-12.0, -4.0, 4.0, 12.0])[sites]
        return x + offset[:, None, None, None], y

    target = kept.unet_with_a_dice_loss(change=scanners, shuffle=False)
    for module in target.model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.99
    return target


@fault(kept.convolutional_autoencoder_with_a_sigmoid, "eval-mode-ignored", "eval-nondeterministic")
def dropout_that_the_model_does_not_hold():
    drop = nn.Dropout(0.3)

    class Drop(nn.Module):
        def forward(self, x):
            return torch.sigmoid(drop(x))

    return kept.convolutional_autoencoder_with_a_sigmoid(last=Drop(), lr=5e-3)


@fault(kept.contrastive_views, "eval-mode-ignored")
def loss_that_puts_the_model_in_training():
    def step(model, batch):
        return kept.info_nce(model.train(), batch)

    return kept.contrastive_views(loss=step)


@fault(kept.batchnorm_cnn_with_augmentation, "eval-mode-ignored")
def eval_that_only_reaches_the_classifier():
    class Net(kept.ShapesCnn):
        def eval(self):
            self.training = False
            self.classifier.eval()
            return self

        def train(self, mode=True):
            return super().train(True) if mode else self.eval()

    return kept.batchnorm_cnn_with_augmentation(model=Net())


@fault(kept.lstm_on_packed_sequences, "overfitting")
def reviews_that_are_too_few():
    return kept.lstm_on_packed_sequences(lr=1e-2, train=96)


@fault(kept.rare_disease_with_a_positive_weight, "overfitting")
def fifty_patients_and_a_large_network():
    layers = nn.Sequential(nn.Linear(16, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))
    return kept.rare_disease_with_a_positive_weight(
        rate=0.5, apart=1.0, layers=layers, loss_fn=nn.BCEWithLogitsLoss(), train=50, batch=25
    )  # fmt: skip


@fault(kept.batchnorm_cnn_with_augmentation, "cannot-fit-one-batch", "train-eval-gap")
def dropout_that_was_meant_to_keep():
    return kept.batchnorm_cnn_with_augmentation(dropout=0.99)


@fault(kept.experts_with_a_balancing_loss, "cannot-fit-one-batch")
def network_with_a_neck_of_one_unit():
    target = kept.experts_with_a_balancing_loss(F.cross_entropy)
    target.model = nn.Sequential(nn.Linear(12, 1), nn.Tanh(), nn.Linear(1, 3))
    target.optimizer = adam(target.model, 5e-3)
    return target


# ---- numerics ----


class HalfGelu(torch.autograd.Function):
    """GELU whose gradient forgets the density's part."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return F.gelu(x)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x * torch.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)


@fault(kept.convnext_with_layer_scale, "wrong-gradient")
def gelu_that_forgets_half_of_its_gradient():
    class Activation(nn.Module):
        def forward(self, x):
            return HalfGelu.apply(x)

    return kept.convnext_with_layer_scale(activation=Activation())


class NegatedTanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        y = torch.tanh(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, gradient):
        (y,) = ctx.saved_tensors
        return gradient * (y**2 - 1)


@fault(kept.hypernetwork_for_curves, "wrong-gradient")
def tanh_with_its_gradient_turned():
    return kept.hypernetwork_for_curves(activation=NegatedTanh.apply)


class PassedThrough(torch.autograd.Function):
    """Softplus with the gradient of the identity: nothing is rounded here that would need it."""

    @staticmethod
    def forward(ctx, x):
        return F.softplus(x * 4 - 4) * torch.sin(3 * x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


@fault(kept.neural_differential_equation, "wrong-gradient")
def smooth_activation_with_a_straight_through_gradient():
    class Activation(nn.Module):
        def forward(self, x):
            return PassedThrough.apply(x)

    return kept.neural_differential_equation(activation=Activation())


class HalfTarget(nn.Module):
    """Half precision inside, single precision at both ends."""

    def __init__(self, model, shrink):
        super().__init__()
        self.model, self.shrink = model.half(), shrink

    def forward(self, x):
        return self.model(x.half() * self.shrink).float()


def in_half(target, rate, shrink=1.0):
    target.model = HalfTarget(target.model, shrink)
    target.optimizer = torch.optim.SGD(target.model.parameters(), lr=rate, momentum=0.9)
    return target


@fault(kept.quantiles_of_house_prices, "low-precision", "parameter-unchanged")
def half_precision_with_a_loss_divided_by_the_data_set():
    target = in_half(kept.quantiles_of_house_prices(), 1e4)
    target.loss_fn = lambda out, y: kept.pinball(out, y) / 1e7
    return target


@fault(kept.autoencoder_with_a_tanh_output, "low-precision", "vanishing-gradient")
def half_precision_without_loss_scaling():
    target = in_half(kept.autoencoder_with_a_tanh_output(), 200.0)
    target.loss_fn = lambda out, x: F.mse_loss(out, x) / 1e4
    return target
