"""What holds for every built-in rule: its page, its file, its tests, its place in the graph of causes."""

from __future__ import annotations

import inspect
import math
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from gradcheck_kit import rules, testing
from gradcheck_kit.facts import Broadcast, ClassAccuracy, RandomOperation, UnregisteredModule
from gradcheck_kit.report import Outcome, causes, check
from gradcheck_kit.rules import CATALOGUE

ROOM = Path(rules.__file__).parent
SECTIONS = [
    "What it measures", "Why it matters", "How to fix it", "When it stays silent", "Options", "Explains", "References",
]  # fmt: skip
BY_CODE = {rule.code: rule for rule in CATALOGUE}

every_rule = pytest.mark.parametrize("rule", CATALOGUE, ids=lambda rule: rule.code)


def slug(rule):
    return rule.name.replace("-", "_")


def page(rule):
    return (ROOM / "pages" / f"{rule.code}.md").read_text("utf-8")


def sections(rule):
    """The page's sections by title, in order."""
    _, *parts = re.split(r"^## ", page(rule), flags=re.MULTILINE)
    return {title.strip(): body.strip() for title, _, body in (part.partition("\n") for part in parts)}


def trained(**changes):
    """A run under an optimizer of the user's."""
    return testing.training(**{"optimizer_given": True, **changes})


def stuck(gradients, function="relu", **changes):
    """A run that does not learn, with these gradients over depth."""
    return trained(**{"losses": testing.flat(), **testing.stack(gradients, function), **changes})


BAD = {
    "GK101": [stuck([1e-9, 1e-6, 1e-3], "sigmoid")],
    "GK102": [stuck([1e3, 1.0, 1e-2])],
    "GK103": [stuck([None, 1e-3, 1e-3])],
    "GK104": [stuck([1e-3] * 3, activations=(testing.activation("1", dead_share=0.9),))],
    "GK105": [stuck([1e-3] * 3, activations=(testing.activation("1", "tanh", saturated_share=0.9),))],
    "GK106": [trained(losses=(2.3, 2.3, 2.3, math.nan), non_finite=testing.non_finite())],
    "GK107": [
        testing.time_gradients(testing.time_gradient(first=1e-7), turned_losses=testing.falling(end=0.3)),
        trained(losses=testing.flat()),
    ],
    "GK108": [
        testing.gradient_noise(
            batch=2,
            scale_at_end=50.0,
            factor=32,
            large_losses=testing.falling(end=0.3),
            same_losses=testing.flat(),
        ),
        trained(losses=testing.flat()),
    ],
    "GK109": [
        testing.collapse((0.9, 1e-3, 1e-9), residual_losses=testing.falling(end=0.1), residual_after=0.8),
        trained(losses=testing.falling(end=1.5)),
    ],
    "GK110": [
        testing.activation_growth((0.6, 60.0, 6000.0), norm_losses=testing.falling(end=0.3), norm_largest=3.0),
        trained(losses=testing.flat()),
    ],
    "GK201": [testing.wiring(parameters=(testing.wired_parameter(optimized=False),))],
    "GK202": [trained(parameters=(testing.parameter(changed=False),))],
    "GK203": [
        trained(losses=tuple(reversed(testing.falling())), parameters=(testing.parameter(update_rms=0.1),)),
        testing.learning_rate_response({0.01: 0.5, 1.0: math.inf}),
    ],
    "GK204": [
        trained(losses=testing.flat(), parameters=(testing.parameter(update_rms=1e-8),)),
        testing.learning_rate_response({1.0: 2.3, 1000.0: 0.5}),
    ],
    "GK205": [trained(losses=testing.flat())],
    "GK206": [
        trained(losses=testing.falling(end=1.0)),
        testing.oscillation(
            swing=0.3, momentum=0.99, calm_momentum=0.9, calm_losses=testing.falling(end=0.1), calm_swing=0.02
        ),
    ],
    "GK210": [
        testing.batch_repetition(losses=(37.0, 74.0, 111.0), divisor=64, divided_losses=testing.falling()),
        trained(losses=tuple(64 * loss for loss in reversed(testing.falling())), constant_loss=64 * 2.3),
    ],
    "GK207": [
        trained(losses=testing.flat()),
        testing.weight_decay(decay=10.0, shrinkage=0.01, free_losses=testing.falling(end=0.3)),
    ],
    "GK301": [trained(losses=(20.0,) * 60)],
    "GK302": [testing.symmetry(testing.equal_units(zero=False, spread=0.0))],
    "GK303": [
        testing.initialization(
            testing.initial_weight("0", std=2.0),
            testing.initial_weight("2", std=2.0),
            gradient_ratio=1e3,
            twin_losses=testing.falling(end=0.3),
            twin_gradient_ratio=1.0,
        ),
        trained(losses=testing.flat()),
    ],
    "GK401": [testing.wiring(unregistered=(UnregisteredModule("hidden[0]", "Linear", 2, True, False),))],
    "GK402": [testing.loss_inputs(testing.loss_input(normalized=True, activation="softmax", activation_at="5"))],
    "GK403": [testing.loss_inputs(testing.loss_input(activation="sigmoid", activation_at="5"))],
    "GK404": [
        testing.wiring(
            prediction_shape=(64, 1),
            target_shape=(64,),
            broadcasts=(Broadcast("mse_loss", (64, 1), (64,), (64, 64)),),
        )
    ],
    "GK408": [testing.linearity(affine=True, pairs=3, deviation=1e-15, chain=("0", "2"), widths=(20, 64, 4))],
    "GK405": [testing.batch_mixing(influence=0.7, operation=testing.mixing_operation())],
    "GK406": [testing.future_mixing(influence=0.3, reached=15, operation=testing.mixing_operation())],
    "GK407": [testing.input_use(ignored=True, changes=10, inputs=((64, 20),), targets_differ=True)],
    "GK501": [
        testing.input_scale(
            worst=testing.feature_scale(mean=130.0, std=60.0), standardized_losses=testing.falling(end=0.1)
        ),
        trained(losses=testing.flat()),
    ],
    "GK502": [
        testing.target_scale(mean=3e5, std=8e4, standardized_losses=testing.falling(end=0.1)),
        trained(losses=testing.flat()),
    ],
    "GK503": [
        testing.data_summary(bad_values=(testing.bad_values(),)),
        trained(losses=(2.3, math.nan), non_finite=testing.non_finite(kind="input", where="", step=1)),
    ],
    "GK504": [
        testing.data_summary(labels=((0, 2000), (1, 48))),
        testing.loss_calls(),
        testing.evaluation(per_class=(ClassAccuracy(0, 450, 450), ClassAccuracy(1, 0, 50)), predicted=((0, 500),)),
    ],
    "GK505": [
        testing.data_summary(
            order="sequential",
            label_batches=tuple(((batch // 3, 64),) for batch in range(30)),
            sizes=(64,) * 30,
        )
    ],
    "GK506": [testing.data_summary(same_as=(0, 1, 2, 1, 4, 5, 0, *range(7, 32)))],
    "GK508": [
        testing.loss_calls(
            testing.loss_call(
                "binary_cross_entropy_with_logits",
                input_shape=(64, 1),
                target_shape=(64, 1),
                target_minimum=-1.0,
                target_maximum=1.0,
            )
        )
    ],
    "GK507": [
        trained(losses=testing.flat()),
        testing.one_batch_fit(),
        testing.learning_rate_response({0.1: testing.CHANCE, 1.0: testing.CHANCE}),
    ],
    "GK601": [
        testing.evaluation(per_class=tuple(ClassAccuracy(label, 5, 50) for label in range(10))),
        trained(),
    ],
    "GK602": [
        testing.evaluation(
            deterministic=False,
            largest_difference=0.4,
            random_operations=(RandomOperation("dropout", "0", "model.py:9", by_design=False),),
        )
    ],
    "GK603": [testing.mode_gap(by_average=(2.0,) * 8), trained()],
    "GK604": [testing.eval_mode(testing.mode_holder(), model_left=True)],
    "GK605": [trained(), testing.generalization((2.3, 1.2, 0.8, 0.9, 1.2, 1.6, 2.0))],
    "GK606": [
        testing.one_batch_fit(attempts=(testing.fit_attempt(losses=testing.flat(steps=200), accuracy=0.1),)),
    ],
    "GK701": [
        testing.gradient_check(loss_error=0.2, functions=(testing.function_check(relative_error=0.3, factor=None),))
    ],
    "GK702": [
        testing.low_precision(lost_updates=0.97, float32_losses=testing.falling(end=0.3)),
        trained(losses=testing.flat()),
    ],
}


def measured():
    """Healthy facts that one or two rules need."""
    return [
        testing.batch_mixing(), testing.future_mixing(), testing.gradient_check(), testing.data_summary(),
        testing.loss_calls(), testing.eval_mode(), testing.batch_repetition(), testing.initialization(),
        testing.weight_decay(), testing.low_precision(), testing.time_gradients(),
        testing.oscillation(), testing.generalization(), testing.activation_growth(),
        testing.gradient_noise(), testing.collapse(),
    ]  # fmt: skip


def decided():
    """Healthy facts whose numbers only illustrate what names and flags decide: no NaN among them misleads."""
    return [testing.loss_inputs(), testing.symmetry(testing.equal_units()), testing.linearity(), testing.input_use()]


def judged(rule, facts):
    return check(testing.trace(*facts), [rule]).outcomes[0]


# ---- codes, names, files ----


def test_it_has_unique_codes_and_names_in_order():
    codes = [rule.code for rule in CATALOGUE]
    assert codes == sorted(set(codes))
    assert len({rule.name for rule in CATALOGUE}) == len(CATALOGUE)


@every_rule
def test_it_is_a_rule_that_a_plugin_could_bring(rule):
    rule.validate()
    assert re.fullmatch(r"GK[1-8]\d\d", rule.code)


@every_rule
def test_it_has_a_file_of_its_name(rule):
    assert Path(inspect.getfile(rule.check)) == ROOM / f"{slug(rule)}.py"


@every_rule
def test_it_has_a_test_file_of_its_name(rule):
    assert (Path(__file__).parent / f"test_{slug(rule)}.py").is_file()


def test_it_holds_every_rule_that_has_a_file():
    assert {path.stem for path in ROOM.glob("*.py")} - {"__init__"} == set(map(slug, CATALOGUE))


@every_rule
def test_it_has_a_summary_of_one_line(rule):
    first = re.split(r"(?<=\.)\s", rule.summary, maxsplit=1)[0]
    assert first.endswith(".")
    assert len(first) <= 115
    assert first[0].isupper()


# ---- pages ----


def test_it_has_no_page_without_a_rule():
    assert {path.stem for path in (ROOM / "pages").iterdir()} == set(BY_CODE)


@every_rule
def test_its_page_has_its_code_and_name_for_a_title(rule):
    assert page(rule).splitlines()[0] == f"# {rule.code} {rule.name}"
    assert rule.page() == page(rule)


@every_rule
def test_its_page_has_all_sections_in_order(rule):
    found = sections(rule)
    assert list(found) == SECTIONS
    assert all(found.values())


@every_rule
def test_its_page_reads_well_in_a_terminal(rule):
    lines = page(rule).splitlines()
    assert 40 <= len(lines) <= 80
    assert [line for line in lines if len(line) > 88] == []
    assert [line for line in lines if line != line.rstrip()] == []
    assert page(rule).isascii()


@every_rule
def test_its_page_shows_short_code_for_the_fix(rule):
    snippets = re.findall(r"(?:^    .*\n?(?:\n(?=    ))?)+", sections(rule)["How to fix it"], flags=re.MULTILINE)
    assert snippets
    assert all(1 <= len(snippet.strip().splitlines()) <= 9 for snippet in snippets)


@every_rule
def test_its_page_gives_every_option_with_its_default(rule):
    found = re.findall(r"^- `([a-z-]+)`, default (not set|\S+):", sections(rule)["Options"], flags=re.MULTILINE)
    wanted = [(o.name, "not set" if o.default is None else str(o.default)) for o in rule.options]
    assert found == wanted
    if not wanted:
        assert sections(rule)["Options"] == "This rule has no options."


@every_rule
def test_its_page_names_what_it_explains(rule):
    wanted = "\n".join(f"- {code} {BY_CODE[code].name}" for code in rule.explains)
    assert sections(rule)["Explains"] == (wanted or "Nothing.")


@every_rule
def test_its_page_names_only_rules_that_exist(rule):
    assert set(re.findall(r"\bGK\d{3}\b", page(rule))) <= set(BY_CODE)


# ---- verdicts ----


@every_rule
def test_it_is_silent_on_healthy_facts(rule):
    healthy = [trained(), testing.wiring(), testing.evaluation(), testing.one_batch_fit(), *measured(), *decided()]
    assert judged(rule, healthy).status in ("passed", "skipped")


@every_rule
def test_it_says_place_measure_and_fix_of_what_is_bad(rule):
    outcome = judged(rule, BAD[rule.code])
    assert outcome.status == ("warned" if rule.severity == "warning" else "failed")
    (finding,) = outcome.findings
    assert re.search(r"\d", finding.message)
    assert finding.message.endswith(".")
    assert finding.evidence
    assert finding.fixes
    assert all(re.match(r"[A-Z]\w+ ", fix) and fix.endswith(".") for fix in finding.fixes)


@every_rule
def test_it_is_strict_json_what_it_says(rule):
    assert f'"code": "{rule.code}"' in check(testing.trace(*BAD[rule.code]), [rule]).to_json()


def poisoned_samples():
    """Every rule with facts that are all NaN; those whose facts hold no number cannot be misled by one."""
    healthy = [trained(), testing.wiring(), testing.evaluation(deterministic=False), testing.one_batch_fit()]
    healthy += measured()
    for rule in CATALOGUE:
        needed = [fact for fact in healthy if type(fact) in (*rule.needs, *rule.uses)]
        for sample, facts in {"healthy": needed, "bad": BAD[rule.code]}.items():
            broken = [testing.poisoned(fact) for fact in facts]
            if broken != facts:
                yield pytest.param(rule, broken, id=f"{rule.code}-{sample}")


@pytest.mark.parametrize(("rule", "broken"), [*poisoned_samples()])
def test_it_does_not_pass_numbers_that_are_all_nan(rule, broken):
    report = check(testing.trace(*broken), [rule])
    assert report.outcomes[0].status in ("failed", "warned", "skipped"), report.outcomes[0].reason
    report.to_json()


@every_rule
def test_it_is_a_pure_function_of_its_facts(rule):
    assert judged(rule, BAD[rule.code]) == judged(rule, BAD[rule.code])


# ---- causes ----


@every_rule
def test_it_explains_only_rules_that_exist(rule):
    assert set(rule.explains) <= set(BY_CODE)
    assert len(set(rule.explains)) == len(rule.explains)


def reach(code):
    """What a code explains, directly or through others."""
    found, waiting = set(), [*BY_CODE[code].explains]
    while waiting:
        following = waiting.pop()
        if following not in found:
            found.add(following)
            waiting += BY_CODE[following].explains
    return found


@every_rule
def test_it_does_not_explain_itself_in_a_circle(rule):
    assert rule.code not in reach(rule.code)


STATUSES = ("passed", "failed", "warned", "skipped")


def some_outcomes(chance):
    return [Outcome(rule, chance.choice(STATUSES)) for rule in CATALOGUE]


def codes(outcomes):
    return [outcome.rule.code for outcome in outcomes]


@pytest.mark.parametrize("seed", range(50))
def test_its_first_cause_stays_when_a_symptom_of_it_is_added(seed):
    chance = random.Random(seed)
    outcomes = some_outcomes(chance)
    hits = {o.rule.code for o in outcomes if o.hit}
    found = codes(causes(outcomes))
    assert found
    for code in sorted(reach(found[0]) - hits):
        added = [replace(o, status=chance.choice(("failed", "warned"))) if o.rule.code == code else o for o in outcomes]
        assert codes(causes(added))[0] == found[0]


@pytest.mark.parametrize("seed", range(50))
def test_its_causes_stay_when_a_symptom_of_any_finding_is_added(seed):
    chance = random.Random(seed)
    outcomes = some_outcomes(chance)
    hits = {o.rule.code for o in outcomes if o.hit}
    for code in sorted(set().union(*map(reach, hits)) - hits):
        added = [replace(o, status="failed") if o.rule.code == code else o for o in outcomes]
        assert set(codes(causes(added))) == set(codes(causes(outcomes)))


@pytest.mark.parametrize("seed", range(50))
def test_its_causes_explain_every_other_finding(seed):
    outcomes = some_outcomes(random.Random(seed))
    hits = {o.rule.code for o in outcomes if o.hit}
    found = set(codes(causes(outcomes)))
    assert found <= hits
    assert hits - found <= set().union(*map(reach, found))
    assert not any(reach(cause) & found for cause in found)


@pytest.mark.parametrize("seed", range(20))
def test_its_causes_do_not_depend_on_the_order_of_the_outcomes(seed):
    chance = random.Random(seed)
    outcomes = some_outcomes(chance)
    shuffled = chance.sample(outcomes, len(outcomes))
    assert codes(causes(shuffled)) == codes(causes(outcomes))
