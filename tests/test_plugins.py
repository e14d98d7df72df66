"""What plugins bring comes in and is refused when malformed; rules are selected and set by name."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from types import ModuleType, SimpleNamespace

import pytest

from gradcheck_kit import hookimpl, plugins, remedy, rule
from gradcheck_kit.errors import PluginError, UsageError
from gradcheck_kit.experiments import Experiment, in_order
from gradcheck_kit.facts import Training
from gradcheck_kit.plugins import all_formats, all_rules, find_rule, load_plugins, parse_options, select
from gradcheck_kit.render import FORMATS


def check(training, *, ratio: float = 1e-3, count: int = 3, strict: bool = False, least: float | None = None):
    """The thing is too small. Details follow.

    More.
    """
    yield from ()


def make(code="ACME101", name="acme_rule", function=check):
    return replace(rule(code, needs=(Training,))(function), name=name.replace("_", "-"))


def pack(*rules, hook="gradcheck_rules", returns=None):
    module = ModuleType("acme")
    function = lambda: returns if returns is not None else list(rules)  # noqa: E731
    function.__name__ = hook
    setattr(module, hook, hookimpl(function))
    return module


@pytest.fixture
def install(monkeypatch):
    """Make modules (or callables that raise) look like installed plugins."""

    def install(**modules):
        def entry(name, content):
            load = content if not isinstance(content, ModuleType) else lambda: content
            distribution = SimpleNamespace(name=name.split("__")[0].replace("_", "-"), version="0.10")
            return SimpleNamespace(name=name, value=f"{name}.rules", dist=distribution, load=load)

        entries = [entry(name, content) for name, content in modules.items()]
        monkeypatch.setattr(plugins, "entry_points", lambda group: entries if group == "gradcheck_kit" else [])

    return install


def raising(error):
    def load():
        raise error

    return load


# ---- loading ----


def test_it_has_the_built_in_rules_by_the_same_door(install):
    install()
    (built_in,) = load_plugins()
    assert built_in.name == "gradcheck-kit"
    assert all(r.plugin == "gradcheck-kit" for r in built_in.rules)


def test_it_adds_the_rules_of_an_installed_plugin_under_its_name(install):
    install(acme_pack=pack(make()))
    built_in, acme = load_plugins()
    assert (built_in.name, acme.name, acme.version) == ("gradcheck-kit", "acme-pack", "0.10")
    assert [(r.code, r.plugin) for r in acme.rules] == [("ACME101", "acme-pack")]
    assert "ACME101" in [r.code for r in all_rules()]


def test_it_takes_two_entry_points_of_one_distribution(install):
    install(acme__a=pack(make()), acme__b=pack(make("ACME102", "other_rule")))
    assert [p.name for p in load_plugins()] == ["gradcheck-kit", "acme", "acme:acme__b"]


@pytest.mark.parametrize("name", ["acme-pack", "acme_pack"])
def test_it_leaves_a_disabled_plugin_out_by_either_name(install, name):
    install(acme_pack=raising(ImportError("never asked")))
    assert [p.name for p in load_plugins([name])] == ["gradcheck-kit"]


def test_it_leaves_all_of_a_disabled_distribution_out(install):
    install(acme__a=pack(make()), acme__b=pack(make("ACME102", "other_rule")))
    assert [p.name for p in load_plugins(["acme"])] == ["gradcheck-kit"]


def test_it_leaves_the_built_in_rules_out_when_asked(install):
    install(acme=pack(make()))
    assert [r.code for r in all_rules(["gradcheck-kit"])] == ["ACME101"]


def test_it_says_which_plugins_there_are_when_a_disabled_one_is_unknown(install):
    install(acme=pack(make()))
    with pytest.raises(UsageError, match="no plugin is called acne; there are: acme, gradcheck-kit"):
        load_plugins(["acne"])


# ---- refusing ----


@pytest.mark.parametrize("error", [ImportError("No module named 'acme'"), ValueError("bad"), SystemExit(0)])
def test_it_names_a_plugin_that_does_not_load_and_how_to_do_without(install, error):
    install(acme_pack=raising(error))
    sentence = (
        f"plugin acme-pack does not load: {type(error).__name__}: .*; leave it out with --disable-plugin acme-pack"
    )
    with pytest.raises(PluginError, match=sentence) as raised:
        load_plugins()
    assert raised.value.plugin == "acme-pack"


def test_it_refuses_a_misspelt_hook(install):
    install(acme=pack(make(), hook="gradcheck_rulez"))
    with pytest.raises(PluginError, match=r"plugin acme does not load: .*unknown hook 'gradcheck_rulez'"):
        load_plugins()


def test_it_names_the_plugin_whose_hook_raises(install):
    module = pack(returns=[])
    module.gradcheck_rules = hookimpl(raising(KeyError("x")))
    module.gradcheck_rules.__name__ = "gradcheck_rules"
    install(acme=module)
    with pytest.raises(PluginError, match="plugin acme: gradcheck_rules failed: KeyError: 'x'"):
        load_plugins()


def test_it_refuses_what_is_no_list(install):
    install(acme=pack(returns=3))
    with pytest.raises(PluginError, match="plugin acme: gradcheck_rules failed: TypeError"):
        load_plugins()


def test_it_refuses_what_is_no_rule(install):
    install(acme=pack(check))
    with pytest.raises(PluginError, match=r"plugin acme: gradcheck_rules returned .*, which is no Rule; use @rule"):
        load_plugins()


@pytest.mark.parametrize(("code", "name"), [("ACME101", "third_rule"), ("ACME103", "acme_rule")])
def test_it_refuses_a_code_or_name_that_is_taken_and_says_by_whom(install, code, name):
    install(acme=pack(make()), zeta=pack(make(code, name)))
    with pytest.raises(PluginError, match=r"plugin zeta: (ACME101|acme-rule) is taken by acme; choose another"):
        load_plugins()


@pytest.mark.parametrize("code", ["acme101", "A101", "ACME1", "ACME1011", "TOOLONG101", "GK10x", ""])
def test_it_refuses_a_malformed_code(install, code):
    install(acme=pack(make(code)))
    with pytest.raises(PluginError, match=r"plugin acme: rule acme-rule \(.*\) has a malformed code; use two to five"):
        load_plugins()


def test_it_refuses_a_malformed_name(install):
    install(acme=pack(make(name="Acme")))
    with pytest.raises(PluginError, match="has a malformed name; use lower-case words joined by hyphens"):
        load_plugins()


def undocumented(training):
    yield


def lonely():
    """Takes no fact."""
    yield


def listing(training, *, layers=()):
    """Has an option that is no plain value."""
    yield


def required(training, *, ratio: float):
    """Has an option without a default."""
    yield


def untyped(training, *, ratio=1.0):
    """Has an option without a type."""
    yield


def unknown(training, *, ratio: Ratio = 1.0):  # noqa: F821
    """Has an option of an unknown type."""
    yield


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (undocumented, "has no docstring"),
        (lonely, "takes 0 positional parameters but names 1 facts"),
        (listing, "has the option layers whose default is not a plain value"),
        (required, "has the option ratio whose default is not a plain value"),
        (untyped, "has an option without a plain type: .*ratio.*; annotate it bool, int, float or str"),
        (unknown, "has an option without a plain type: .*Ratio"),
    ],
)
def test_it_refuses_a_rule_that_cannot_run_and_says_why(install, function, reason):
    install(acme=pack(make(function=function)))
    with pytest.raises(PluginError, match=rf"plugin acme: rule acme-rule \(ACME101\) {reason}"):
        load_plugins()


# ---- finding and selecting ----

CATALOGUE = tuple(make(code, name) for code, name in (("GK101", "one_a"), ("GK102", "one_b"), ("GK201", "two_a")))


@pytest.mark.parametrize("key", ["GK102", "gk102", "one-b"])
def test_it_finds_a_rule_by_code_or_name(key):
    assert find_rule(CATALOGUE, key).code == "GK102"


@pytest.mark.parametrize(("key", "nearest"), [("one-bb", "one-b"), ("GK103", "GK10"), ("gk2001", "GK201")])
def test_it_names_the_nearest_rule(key, nearest):
    with pytest.raises(UsageError, match=f"no rule is called '{key}'; did you mean {nearest}"):
        find_rule(CATALOGUE, key)


def test_it_says_where_the_rules_are_listed():
    with pytest.raises(UsageError, match="no rule is called 'x'; `gradcheck-kit rules` lists them all"):
        find_rule(CATALOGUE, "x")


@pytest.mark.parametrize(
    ("selected", "ignored", "extended", "left"),
    [
        (None, [], [], ["GK101", "GK102", "GK201"]),
        (["GK1"], [], [], ["GK101", "GK102"]),
        (["gk1"], [], [], ["GK101", "GK102"]),
        (["two-a"], [], [], ["GK201"]),
        (None, ["GK1"], [], ["GK201"]),
        (["GK1"], ["GK102"], [], ["GK101"]),
        (["GK102"], ["GK1"], [], ["GK102"]),
        (["GK1"], ["GK1"], [], []),
        (["GK102"], ["one-b"], [], []),
        (["GK2"], [], ["one-a"], ["GK101", "GK201"]),
        (None, ["GK1"], ["GK101"], ["GK101", "GK201"]),
    ],
)
def test_it_lets_the_longest_selector_decide(selected, ignored, extended, left):
    assert [r.code for r in select(CATALOGUE, selected, ignored, extended)] == left


@pytest.mark.parametrize("where", ["selected", "ignored", "extended"])
def test_it_refuses_a_selector_that_matches_nothing(where):
    with pytest.raises(UsageError, match="the selector 'one-aa' matches no rule; did you mean one-a"):
        select(CATALOGUE, **{where: ["one-aa"]})


# ---- options ----


def test_it_reads_options_by_name_or_code_and_by_type():
    texts = ["one-a.ratio=1e-4", "GK101.count = 5", "gk102.strict=True", "two-a.least=0.5"]
    options = parse_options(texts, CATALOGUE)
    assert options == {"one-a": {"ratio": 1e-4, "count": 5}, "one-b": {"strict": True}, "two-a": {"least": 0.5}}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("one-a.ratio", "is not RULE.OPTION=VALUE; for example vanishing-gradient.ratio=1e-4"),
        ("ratio=1", "is not RULE.OPTION=VALUE"),
        ("one-c.ratio=1", "no rule is called 'one-c'; did you mean one-a|one-b"),
        ("one-a.ration=1", "rule one-a has no option 'ration'; its options: ratio, count, strict, least"),
        ("one-a.ratio=small", "expected a number, found 'small'"),
        ("one-a.ratio=nan", "expected a number, found 'nan'"),
        ("one-a.count=1.5", "expected a whole number, found '1.5'"),
        ("one-a.strict=1", "expected true or false, found '1'"),
    ],
)
def test_it_says_what_is_wrong_with_an_option(text, sentence):
    with pytest.raises(UsageError, match=sentence):
        parse_options([text], CATALOGUE)


def test_it_knows_the_options_of_a_rule():
    assert [(o.name, o.type, o.default, o.optional) for o in CATALOGUE[0].options] == [
        ("ratio", float, 1e-3, False),
        ("count", int, 3, False),
        ("strict", bool, False, False),
        ("least", float, None, True),
    ]


def test_it_has_the_docstring_for_a_page_where_there_is_none():
    assert CATALOGUE[0].page().startswith("The thing is too small.")
    assert CATALOGUE[0].summary == "The thing is too small. Details follow."


def test_it_reads_the_page_beside_the_rule(tmp_path, monkeypatch):
    (tmp_path / "acme_rules.py").write_text("def check(training):\n    '''Finds.'''\n    yield\n")
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "ACME101.md").write_text("# The page")
    monkeypatch.syspath_prepend(tmp_path)
    import acme_rules

    monkeypatch.delitem(sys.modules, "acme_rules")
    assert make(function=acme_rules.check).page() == "# The page"


# ---- what else a plugin brings ----


def bringing(**hooks):
    """A plugin module with these hooks, each returning the given value."""
    module = ModuleType("acme")
    for name, value in hooks.items():

        def implementation(value=value):
            return value

        implementation.__name__ = name
        setattr(module, name, hookimpl(implementation))
    return module


def test_it_adds_an_output_format(install):
    install(acme=bringing(gradcheck_formats={"count": lambda report: str(len(report.outcomes))}))
    formats = all_formats()
    assert list(formats)[:2] == list(FORMATS)[:2]
    assert formats["count"](SimpleNamespace(outcomes=(1, 2))) == "2"
    assert "count" not in all_formats(["acme"])


def test_it_hangs_a_remedy_on_the_rule_that_it_is_for(install):
    @remedy("GK101")
    def warm_up(finding, trace):
        return "Warm up."

    install(acme=bringing(gradcheck_remedies=[warm_up]))
    by_code = {r.code: r for r in all_rules()}
    assert [(m.plugin, m.write) for m in by_code["GK101"].remedies] == [("acme", warm_up.write)]
    assert by_code["GK102"].remedies == ()
    assert all(r.remedies == () for r in all_rules(["acme"]))


@dataclass(frozen=True)
class Heads:
    count: int


@dataclass
class Loose:
    count: int


def measure(probe):
    return Heads(3)


def after_each_other():
    @dataclass(frozen=True)
    class First:
        pass

    @dataclass(frozen=True)
    class Second:
        pass

    return [Experiment(First, measure, after=(Second,)), Experiment(Second, measure, after=(First,))]


def test_it_asks_for_experiments_when_they_are_wanted_and_not_before(install):
    def asked():
        raise AssertionError("torch would be imported now")

    asked.__name__ = "gradcheck_experiments"
    module = pack(make())
    module.gradcheck_experiments = hookimpl(asked)
    install(acme=module)
    (found,) = [r for r in all_rules() if r.plugin == "acme"]
    with pytest.raises(PluginError, match="plugin acme: gradcheck_experiments failed: AssertionError: torch would be"):
        found.experiments()


def test_it_names_the_plugin_of_an_experiment(install):
    install(acme=bringing(gradcheck_rules=[make()], gradcheck_experiments=[Experiment(Heads, measure)]))
    (found,) = [r for r in all_rules() if r.plugin == "acme"]
    assert found.experiments() == (Experiment(Heads, measure, plugin="acme"),)


@pytest.mark.parametrize(
    ("experiments", "sentence"),
    [
        ([measure], "it returned <function measure .* from gradcheck_experiments, which is no Experiment; use"),
        ([Experiment(int, measure)], "experiment measure makes <class 'int'>, which is no fact; use a @dataclass"),
        ([Experiment(Loose, measure)], "experiment measure makes Loose, which can be changed; use @dataclass"),
        ([Experiment(Heads, lambda: 1)], "experiment <lambda> is no function of the probe alone; write def measure"),
        (3, "gradcheck_experiments failed: TypeError: it returned 3, not a list"),
    ],
)
def test_it_refuses_an_experiment_that_cannot_run_and_says_why(install, experiments, sentence):
    install(acme=bringing(gradcheck_rules=[make()], gradcheck_experiments=experiments))
    (found,) = [r for r in all_rules() if r.plugin == "acme"]
    with pytest.raises(PluginError, match=f"plugin acme: {sentence}"):
        found.experiments()


def test_it_refuses_a_fact_whose_name_is_taken():
    taken = type("Training", (), {"__annotations__": {"count": int}, "count": 0})
    foreign = Experiment(dataclass(frozen=True)(taken), measure, plugin="acme")
    with pytest.raises(PluginError, match="plugin acme: its fact Training is made by gradcheck-kit already; rename it"):
        in_order([Experiment(Training, measure), foreign])


def test_it_refuses_facts_that_are_made_after_each_other():
    with pytest.raises(PluginError, match="these facts are made after each other: First, Second"):
        in_order(after_each_other())


def test_it_keeps_the_order_of_experiments_but_for_what_each_looks_at():
    first, second = (replace(e, after=()) for e in after_each_other())
    heads = Experiment(Heads, measure)
    assert in_order([first, heads, second]) == [first, heads, second]
    assert in_order([replace(first, after=(second.fact,)), heads, second]) == [
        heads, second, replace(first, after=(second.fact,)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("hooks", "sentence"),
    [
        ({"gradcheck_formats": ["csv"]}, r"gradcheck_formats failed: TypeError: it returned \['csv'\], not a dict of"),
        ({"gradcheck_formats": {"CSV": str}}, "it calls a format 'CSV'; use lower-case letters, digits and hyphens"),
        ({"gradcheck_formats": {"csv": 3}}, "it gives no function for the format csv"),
        ({"gradcheck_formats": {"json": str}}, "json is taken by gradcheck-kit; choose another"),
        ({"gradcheck_remedies": [str]}, "gradcheck_remedies returned <class 'str'>, which is no Remedy; use @remedy"),
        ({"gradcheck_remedies": [remedy("one-a")(str)]}, "a remedy is for 'one-a', which is no rule's code; use one"),
        ({"gradcheck_rules": None}, "gradcheck_rules failed: TypeError: it returned None, not a list"),
    ],
)
def test_it_refuses_what_it_cannot_use_and_says_why(install, hooks, sentence):
    install(acme=bringing(**hooks))
    with pytest.raises(PluginError, match=f"plugin acme: {sentence}"):
        load_plugins()
