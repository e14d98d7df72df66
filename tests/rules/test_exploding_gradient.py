from __future__ import annotations

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.exploding_gradient import exploding_gradient
from gradcheck_kit.testing import (
    RECORDED,
    apply,
    falling,
    flat,
    judge,
    poisoned,
    stack,
    time_gradient,
    time_gradients,
    training,
)

GROWING_DOWN = [1e3, 1.0, 1e-2]
RISING = tuple(10 ** (-3 + 6 * i / (RECORDED - 1)) for i in range(RECORDED))


def stuck(gradients, **changes):
    return training(**{"losses": flat(), "optimizer_given": True, **stack(gradients), **changes})


def test_it_names_the_first_layer_with_ratio_and_limit():
    (finding,) = apply(exploding_gradient, stuck(GROWING_DOWN))
    assert finding.where == "0"
    assert "at the first layers is 1e+05 times that at the last; up to 70 is healthy" in finding.message
    assert finding.evidence["ratio"] == pytest.approx(1e5)
    assert finding.evidence["limit"] == 70
    assert [bar.place for bar in finding.profile] == ["0", "1", "2", "3", "4"]


def test_it_finds_a_gradient_that_grows_from_step_to_step():
    (finding,) = apply(exploding_gradient, stuck([RISING] * 3))
    assert "grew 1.7e+05-fold over the recorded steps; up to 70 is healthy" in finding.message
    assert finding.evidence["growth"] == pytest.approx(1.7e5, rel=0.1)
    assert finding.profile == ()


def test_it_says_why_the_run_is_harmed():
    (finding,) = apply(exploding_gradient, stuck(GROWING_DOWN))
    assert "the loss did not fall" in finding.message


def test_it_initialises_the_users_layers():
    (finding,) = apply(exploding_gradient, stuck(GROWING_DOWN))
    assert finding.fixes[0].startswith("Initialise 0, 2 and 4 with nn.init.kaiming_normal_")
    assert finding.fixes[-1] == "Or normalise between layers: LayerNorm or BatchNorm after 0 and 2."


def test_it_initialises_nothing_where_the_growth_comes_with_the_steps():
    (finding,) = apply(exploding_gradient, stuck([RISING] * 3))
    assert not any("Initialise" in fix for fix in finding.fixes)


def test_it_clips_at_what_nine_in_ten_norms_stay_below():
    calm_then_wild = (1e-3,) * (RECORDED // 2) + (1.0,) * (RECORDED - RECORDED // 2)
    (finding,) = apply(exploding_gradient, stuck([calm_then_wild] * 3))
    (clip,) = [fix for fix in finding.fixes if "clip_grad_norm_" in fix]
    limit = float(clip.split("model.parameters(), ")[1].split(")")[0])
    assert 0.05 < limit < 100


def test_it_clips_at_one_where_all_norms_are_huge():
    (finding,) = apply(exploding_gradient, stuck(GROWING_DOWN))
    assert any("clip_grad_norm_(model.parameters(), 1.0)" in fix for fix in finding.fixes)


def test_it_proposes_no_norm_to_a_model_that_has_some():
    (finding,) = apply(exploding_gradient, stuck(GROWING_DOWN, norm_layers=3))
    assert not any("normalise" in fix for fix in finding.fixes)


# ---- silence ----


def test_it_passes_a_healthy_run():
    assert apply(exploding_gradient, training()) == ()


@pytest.mark.parametrize("gradients", [[0.074, 1e-2, 1e-3], GROWING_DOWN, [RISING] * 3])
def test_it_passes_any_growth_while_the_model_learns(gradients):
    assert apply(exploding_gradient, training(losses=falling(), **stack(gradients))) == ()


def test_it_does_not_blame_a_ratio_that_networks_with_batchnorm_have():
    assert apply(exploding_gradient, stuck([0.065, 1e-2, 1e-3])) == ()


def test_it_looks_at_depth_before_the_first_update_only():
    later = (1e-3,) + (1e3,) * (RECORDED - 1)
    (finding,) = apply(exploding_gradient, stuck([later, 1e-3, 1e-3]))
    assert "over the recorded steps" in finding.message


def test_it_does_not_blame_the_model_for_what_the_probes_own_learning_rate_does():
    assert apply(exploding_gradient, stuck([RISING] * 3, optimizer_given=False)) == ()
    assert apply(exploding_gradient, stuck(GROWING_DOWN, optimizer_given=False))


def test_it_does_not_pass_a_run_that_is_too_short_to_tell():
    assert judge(exploding_gradient, stuck(GROWING_DOWN, losses=flat(steps=5))).status != "passed"


def test_it_does_not_call_a_short_run_stuck_whose_noisy_loss_came_down():
    noisy = (2.9, 3.4, 2.2, 2.9, 1.9, 3.0, 1.7, 2.6, 1.6, 2.0)
    assert apply(exploding_gradient, stuck(GROWING_DOWN, losses=noisy, constant_loss=None)) == ()
    risen = tuple(reversed(noisy))
    assert apply(exploding_gradient, stuck(GROWING_DOWN, losses=risen, constant_loss=None))


def test_it_does_not_call_a_short_run_stuck_that_came_down_to_chance_from_far_above():
    spike = (7.4, 6.1, 9.8, 5.0, 3.3, 2.4, 2.6, 2.0, 2.2, 2.1)
    assert apply(exploding_gradient, stuck(GROWING_DOWN, losses=spike, constant_loss=1.9)) == ()
    assert apply(exploding_gradient, stuck(GROWING_DOWN, losses=(2.1,) * 8 + (2.2, 1.8), constant_loss=1.9))


def test_it_skips_a_run_without_finite_gradients():
    with pytest.raises(Skip, match="no finite gradient was recorded"):
        apply(exploding_gradient, poisoned(training()))


@pytest.mark.parametrize("huge", [1e160, float("inf")])
def test_it_survives_gradients_whose_square_is_no_number(huge):
    (finding,) = apply(exploding_gradient, stuck([(1.0,) + (huge,) * (RECORDED - 1), 1e-3, 1e-3]))
    assert finding.where == "0"


# ---- options ----


def test_it_takes_the_limit_as_an_option():
    assert apply(exploding_gradient, stuck(GROWING_DOWN), ratio=1e9) == ()
    (finding,) = apply(exploding_gradient, stuck([0.065, 1e-2, 1e-3]), ratio=10.0)
    assert "up to 10 is healthy" in finding.message


def test_it_only_warns_where_a_few_steps_at_a_rate_that_nobody_chose_went_up():
    rising = tuple(2.0 + i for i in range(12))
    assert judge(exploding_gradient, stuck(GROWING_DOWN, losses=rising, optimizer_given=False)).status == "warned"
    assert judge(exploding_gradient, stuck(GROWING_DOWN, losses=rising)).status == "failed"
    assert judge(exploding_gradient, stuck(GROWING_DOWN, optimizer_given=False)).status == "failed"


# ---- through time ----

DOUBLING = time_gradients(time_gradient("rnn", first=2.0**19))


def test_it_finds_a_recurrent_layer_whose_every_step_multiplies_the_gradient():
    (finding,) = apply(exploding_gradient, training(losses=flat()), DOUBLING)
    assert finding.where == "rnn"
    assert finding.message.startswith(
        "Before the first update the gradient at the first of 20 steps of rnn (RNN) is 5.2"
    )
    assert finding.evidence["limit"] == 1000
    assert finding.fixes[0].startswith("Start with nn.init.orthogonal_(rnn.weight_hh_l0)")
    assert [bar.place for bar in finding.profile][::9] == ["step 1", "step 20"]


@pytest.mark.parametrize(
    ("run", "time"), [(training(), DOUBLING), (training(losses=flat()), time_gradients(time_gradient(first=100.0)))]
)
def test_it_passes_growth_through_time_that_does_no_harm_or_is_small(run, time):
    assert apply(exploding_gradient, run, time) == ()
