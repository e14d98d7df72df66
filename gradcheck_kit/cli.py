"""The command line: scan, report, rules, explain, schema, plugins, settings.

Exit status: 0 nothing failed, 1 a finding at or above --fail-on, 2 no verdict. Only `scan` imports torch.
stdout holds the report and nothing else; progress, notes and errors go to stderr.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NoReturn

import click
from click.core import ParameterSource
from tabulate import tabulate

from gradcheck_kit import __version__, plugins
from gradcheck_kit import baseline as baselines
from gradcheck_kit import settings as project
from gradcheck_kit.errors import GradcheckKitError, PluginError, ProbeError, UsageError
from gradcheck_kit.facts import FACTS
from gradcheck_kit.render import FORMATS
from gradcheck_kit.render.json import json_schema
from gradcheck_kit.render.text import render_text
from gradcheck_kit.report import Report, check
from gradcheck_kit.rule import OptionValue, Rule, Severity
from gradcheck_kit.settings import Settings
from gradcheck_kit.target import ProbeSettings
from gradcheck_kit.trace import Trace, write_atomically

NAME = "gradcheck-kit"
VERBOSE = "gradcheck_kit.verbose"  # key of click's context: whether to show tracebacks
NO_VERDICT = 2


# ---- the way in and out ------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a name in any script must not end the report
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """The exit status of a command line. What goes wrong is one sentence on stderr and status 2."""
    meta: dict[str, Any] = {}
    try:
        with app.make_context(NAME, arguments) as context:
            meta = context.meta
            return int(app.invoke(context) or 0)
    except click.exceptions.Exit as done:  # --help and --version
        return done.exit_code
    except click.ClickException as error:
        where = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else NAME
        message = error.format_message().rstrip(".")
        see = " See" if message.endswith("?") else "; see"
        return _stop(error, meta, f"error: {message[:1].lower()}{message[1:]}{see} {where} --help")
    except GradcheckKitError as error:
        return _stop(error, meta, f"error: {error}")
    except KeyboardInterrupt as interrupt:
        return _stop(interrupt, meta, str(interrupt) or "interrupted; nothing was judged")
    except BrokenPipeError:  # the reader has seen enough: | head
        _silence_stdout()
        return 0
    except SystemExit as error:
        return _stop(error, meta, f"error: code of the target or a plugin called sys.exit({error.code!r})")
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            return _internal(error, meta)
        name = str(error.filename)
        return _stop(error, meta, f"error: {name[:40]}... is no path: a name of {len(name)} characters is too long")
    except Exception as error:  # noqa: BLE001  # the last resort: a sentence is kinder than a traceback
        return _internal(error, meta)


def _internal(error: Exception, meta: dict[str, Any]) -> int:
    message = f"{type(error).__name__}: {error}".rstrip(": ")
    return _stop(error, meta, f"internal error: {message}; run again with -v and report it")


def _stop(error: BaseException, meta: dict[str, Any], message: str) -> int:
    if meta.get(VERBOSE):
        traceback.print_exception(error)
    _note(message)
    return NO_VERDICT


def _note(message: str) -> None:
    one_line = " ".join(line.strip() for line in message.splitlines() if line.strip())
    with contextlib.suppress(BrokenPipeError):
        print(f"{NAME}: {one_line}", file=sys.stderr, flush=True)


def _silence_stdout() -> None:
    """Point stdout nowhere, so that the interpreter's last flush does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Commands(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands and (".py" in args[0] or ":" in args[0]):
            raise UsageError(f"{args[0]} is no command; to probe it: {NAME} scan {args[0]}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME)
@click.pass_context
def app(context: click.Context) -> None:
    """Tell whether a PyTorch model can learn, why not, and how to fix it."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


# ---- options -----------------------------------------------------------------------------------------------------


class _Number(click.FloatRange):
    """A float in a range; NaN, which click lets through, is in none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


def _set_verbose(context: click.Context, _: click.Parameter, value: bool) -> bool:
    context.meta[VERBOSE] = value
    return value


def _split(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Comma-separated and repeatable are the same thing."""
    parts = tuple(part.strip() for value in values for part in value.split(","))
    if not all(parts):
        raise click.BadParameter("a selector is empty; use codes or names such as GK1,vanishing-gradient")
    return parts


def _shapes(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[tuple[int, ...], ...] | None:
    shapes = []
    for value in values:
        sizes = re.split(r"[x,]", value.strip().lower())
        if not all(re.fullmatch(r"0*[1-9][0-9]{0,8}", size.strip()) for size in sizes):
            raise click.BadParameter(f"{value!r} is no shape; write it without the batch, such as 3x224x224 or 20")
        shapes.append(tuple(int(size) for size in sizes))
    return tuple(shapes) or None


def _device(_: click.Context, __: click.Parameter, value: str) -> str:
    if not re.fullmatch(project.DEVICE, value):
        raise click.BadParameter(f"{value!r} is no device; use cpu, cuda, cuda:1, mps or auto")
    return value


Command = Callable[..., Any]


def _options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, listed by --help in this order."""
    return lambda command: functools.reduce(lambda c, decorate: decorate(c), reversed(decorators), command)


_verbose = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    is_eager=True,
    callback=_set_verbose,
    help="More detail: reasons of skips, every block, tracebacks.",
)

_disable_plugin = click.option(
    "--disable-plugin", "disabled", multiple=True, metavar="NAME", help="Leave this plugin out; repeatable."
)

_defaults = ProbeSettings()

_probe_options = _options(
    click.option(
        "--steps",
        metavar="N",
        type=click.IntRange(1),
        default=_defaults.steps,
        show_default=True,
        help="Length of the training run.",
    ),
    click.option("--batch-size", metavar="N", type=click.IntRange(1), help="Samples per step."),
    click.option(
        "--seed",
        metavar="N",
        type=click.IntRange(0, 2**32 - 1),
        default=_defaults.seed,
        show_default=True,
        help="Of everything random.",
    ),
    click.option(
        "--device",
        metavar="DEVICE",
        default="cpu",
        show_default=True,
        callback=_device,
        help="cpu, cuda, cuda:1, mps, auto.",
    ),
    click.option(
        "--lr", metavar="F", type=_Number(0, min_open=True), help="Learning rate of the optimizer that the probe makes."
    ),
    click.option(
        "--optimizer", type=click.Choice(["sgd", "adam", "adamw"]), help="In place of the target's own, or of Adam."
    ),
    click.option(
        "--data",
        metavar="NAME|DIR",
        help="A data set in place of the target's own: digits, mnist, ..., or a folder of images.",
    ),
    click.option("--data-dir", metavar="DIR", help="Where the named data sets are."),
    click.option(
        "--input",
        "input_shape",
        multiple=True,
        metavar="SHAPE",
        callback=_shapes,
        help="Shape of one input without the batch, such as 3x224x224; repeat it for several inputs.",
    ),
    click.option("--classes", metavar="N", type=click.IntRange(1), help="Number of classes to make targets for."),
    click.option(
        "--amp", type=click.Choice(["bf16", "fp16"]), help="Train under autocast; fp16 with a GradScaler, too."
    ),
    click.option("--quick", is_flag=True, help="Fewer samples and attempts: a first look."),
)

_verdict_options = _options(
    click.option(
        "--select",
        multiple=True,
        metavar="CODES",
        callback=_split,
        help="Only these rules: codes, their beginnings, or names; comma-separated, repeatable.",
    ),
    click.option(
        "--ignore", multiple=True, metavar="CODES", callback=_split, help="All but these; the longest match wins."
    ),
    click.option("--extend-select", multiple=True, metavar="CODES", callback=_split, help="These besides."),
    click.option(
        "--set", "settings", multiple=True, metavar="RULE.OPTION=VALUE", help="Set an option of a rule; repeatable."
    ),
    _disable_plugin,
    click.option(
        "--fail-on",
        type=click.Choice(["error", "warning"]),
        default="error",
        show_default=True,
        help="The least severity that makes the exit status 1.",
    ),
    click.option("--exit-zero", is_flag=True, help="Exit 0 also with findings; 2 stays 2."),
    click.option("--baseline", metavar="FILE", help="Findings that this file knows do not fail."),
    click.option(
        "--write-baseline", metavar="FILE", help="Write there what is found, so that it is known, and exit 0."
    ),
    click.option("--no-settings", is_flag=True, help="Read no pyproject.toml."),
    click.option(
        "--format",
        "format_",
        metavar="NAME",
        default="text",
        show_default=True,
        help=f"How to write the report: {', '.join(FORMATS)}, or a plugin's.",
    ),
    click.option("-o", "--output", metavar="FILE", help="Write the report there in place of stdout."),
    click.option("-q", "--quiet", is_flag=True, help="Only what failed, and the last line."),
    _verbose,
)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """How to judge, and where to say it."""

    rules: tuple[Rule, ...]
    options: dict[str, dict[str, OptionValue]]
    fail_on: Severity
    exit_zero: bool
    format: str
    formats: Mapping[str, plugins.Format]
    output: Path | None
    quiet: bool
    verbose: bool
    settings: Settings
    baseline: Path | None
    write_baseline: Path | None

    def give(self, report: Report) -> int:
        """Write the report, and the baseline if that is asked for; return the exit status."""
        report = self._compared(project.apply(report, self.settings))
        if report.exit_status == NO_VERDICT and (self.format != "text" or self.output is not None):
            crashed = ", ".join(o.rule.code for o in report.of("error"))
            _note("no verdict: " + (f"{crashed} crashed" if crashed else "no rule ran; -v says why"))
        if self.output is None:
            _print(self.render(report, color=_wants_color(), width=min(_width(), 100)))
        else:
            try:
                write_atomically(self.output, self.render(report))
            except OSError as error:
                raise UsageError(f"cannot write -o {self.output}: {error.strerror}; choose another file") from error
        return 0 if self.exit_zero and report.exit_status == 1 else report.exit_status

    def _compared(self, report: Report) -> Report:
        if self.write_baseline is not None and report.exit_status == NO_VERDICT:
            _note(f"{self.write_baseline} is not written: there is no verdict")
            return report
        if self.write_baseline is not None:
            known = baselines.updated(_baseline(self.write_baseline, new=True), report)
            baselines.save(known)
            findings = sum(len(o.findings) for o in report.outcomes)
            of = f"{findings} finding{'s' * (findings != 1)} of {report.trace.header.name}"
            _note(f"wrote {of} to {self.write_baseline}")
            return baselines.compare(report, known)
        if self.baseline is None:
            return report
        report = baselines.compare(report, baselines.load(self.baseline))
        if self.format != "text" and report.baseline is not None:
            for entry in report.baseline.stale:
                _note(f"stale in {report.baseline.path}: {entry.code} {entry.rule} at {', '.join(entry.places)}")
        return report

    def render(self, report: Report, *, color: bool = False, width: int = 80) -> str:
        if self.format == "text":
            return render_text(report, quiet=self.quiet, verbose=self.verbose, color=color, width=width)
        return self.formats[self.format](report).rstrip("\n") + "\n"


def _judging(command: Callable[..., int]) -> Command:
    """Give a command the options that select rules and write a report; it gets them as one `_Verdict`."""

    @_verdict_options
    @functools.wraps(command)
    def judged(
        *,
        select: tuple[str, ...],
        ignore: tuple[str, ...],
        extend_select: tuple[str, ...],
        settings: tuple[str, ...],
        disabled: tuple[str, ...],
        fail_on: Severity,
        exit_zero: bool,
        baseline: str | None,
        write_baseline: str | None,
        no_settings: bool,
        format_: str,
        output: str | None,
        quiet: bool,
        verbose: bool,
        **others: Any,
    ) -> int:
        file, known = _project(others, disabled, off=no_settings)
        rules = project.selected(known, file, select, ignore, extend_select)
        options = {rule: dict(values) for rule, values in file.options.items()}
        for rule, values in plugins.parse_options(settings, known).items():
            options.setdefault(rule, {}).update(values)
        fail_on = fail_on if _typed("fail_on") else file.fail_on or fail_on
        for name in ("steps", "batch_size", "seed", "device", "amp", "data_dir"):
            value = getattr(file, name)
            if name in others and value is not None and not _typed(name):
                others[name] = str(value) if isinstance(value, Path) else value
        formats = plugins.all_formats(disabled or file.disable_plugins or ())
        if format_ not in formats:
            raise UsageError(f"there is no format {format_!r}; use one of {', '.join(sorted(formats))}")
        inputs = [Path(str(others[name]).partition(":")[0]) for name in ("target", "trace") if name in others]
        compared = file.baseline if baseline is None else Path(baseline)
        read = [*inputs, *([compared] if compared else [])]
        path = None if output in (None, "-") else _writable("-o", Path(str(output)), read)
        if baseline is not None and write_baseline is not None:
            raise UsageError("--baseline and --write-baseline are two things; write first, then compare")
        kept = None if write_baseline is None else _writable("--write-baseline", Path(write_baseline), inputs)
        if kept is not None:
            _baseline(kept, new=True)  # a file that is no baseline is found out before the probe
            if path is not None and path.resolve() == kept.resolve():
                raise UsageError(f"--write-baseline and -o are both {output}; a baseline and a report need a file each")
        elif compared is not None:
            _baseline(compared)
        verdict = _Verdict(
            rules, options, fail_on, exit_zero, format_, formats, path, quiet, verbose,
            replace(file, baseline=None), compared, kept,
        )  # fmt: skip
        return command(verdict=verdict, **others)

    return judged


def _typed(option: str) -> bool:
    """Whether the option stands on the command line, so that it beats the settings."""
    return click.get_current_context().get_parameter_source(option) is ParameterSource.COMMANDLINE


def _project(given: dict[str, Any], disabled: Sequence[str], *, off: bool = False) -> tuple[Settings, tuple[Rule, ...]]:
    """The settings that are in force for what is examined, and the rules that there are."""
    path = None if off else project.find(project.folder_of(str(given.get("target") or given.get("script") or "")))
    known = project.known_rules(path, disabled)
    return Settings() if path is None else project.load(path, known), known


def _baseline(path: Path, *, new: bool = False) -> baselines.Baseline:
    """The baseline in a file; an empty one where it is to be made."""
    return baselines.Baseline(path) if new and not path.exists() else baselines.load(path)


def _writable(option: str, path: Path, inputs: Sequence[Path]) -> Path:
    """The path, known to be writable before the work starts. Raises UsageError if it is not."""
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"the folder of {option} {path} does not exist; create it first: mkdir -p {path.parent}")
    if any(path.exists() and known.exists() and path.samefile(known) for known in inputs):
        raise UsageError(f"{option} {path} would overwrite what is examined; choose another file")
    try:
        if path.is_file() or not path.exists():
            with tempfile.TemporaryFile(dir=path.resolve().parent):
                pass
        elif not os.access(path, os.W_OK):
            raise PermissionError(13, "Permission denied")
    except OSError as error:
        raise UsageError(f"cannot write {option} {path}: {error.strerror}; choose another file") from error
    return path


# ---- commands that judge -----------------------------------------------------------------------------------------


@app.command()
@click.argument("target")
@_probe_options
@click.option("--min-accuracy", metavar="F", type=_Number(0, 1), help="The least accuracy on test data, 0 to 1.")
@click.option("--save", metavar="TRACE", help="Keep what the probe saw, for `report`.")
@_judging
def scan(target: str, verdict: _Verdict, min_accuracy: float | None, save: str | None, **given: Any) -> int:
    """Probe a model: a short training run, experiments, rules, report.

    TARGET is path/to/model.py, path/to/model.py:name, package.module:name or torchvision:resnet18.
    """
    settings = ProbeSettings(**{f.name: given[f.name] for f in fields(ProbeSettings) if f.name in given})
    if min_accuracy is not None:
        try:
            accuracy = plugins.find_rule(verdict.rules, "eval-accuracy")
        except UsageError as error:
            raise UsageError(
                "--min-accuracy is judged by eval-accuracy, which is not selected; add --extend-select eval-accuracy"
            ) from error
        verdict.options.setdefault(accuracy.name, {})["min-accuracy"] = min_accuracy
    kept = (
        None
        if save is None
        else _writable(
            "--save", Path(save), [Path(target.partition(":")[0]), *([verdict.baseline] if verdict.baseline else [])]
        )
    )
    if kept is not None and verdict.output is not None and kept.resolve() == verdict.output.resolve():
        raise UsageError(f"--save and -o are both {save}; a trace and a report need a file each")
    if kept is not None and verdict.write_baseline is not None and kept.resolve() == verdict.write_baseline.resolve():
        raise UsageError(f"--save and --write-baseline are both {save}; a trace and a baseline need a file each")
    # Threads of OpenMP that spin while they wait make two probes on two cores twenty times slower than one.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    with _stdout_is_ours(), _progress(quiet=verdict.quiet) as progress:
        from gradcheck_kit.probe import scan_target

        report = scan_target(
            target, settings, rules=verdict.rules, options=verdict.options, fail_on=verdict.fail_on, progress=progress
        )
    if kept is not None:
        report.trace.save(kept)
    return verdict.give(report)


@app.command()
@click.argument("trace")
@_judging
def report(trace: str, verdict: _Verdict) -> int:
    """Apply the rules again to a saved TRACE; imports no torch."""
    start = time.perf_counter()
    extra = {fact for rule in verdict.rules for fact in (*rule.needs, *rule.uses)} - set(FACTS)
    loaded = Trace.load(Path(trace), extra)
    judged = check(loaded, verdict.rules, options=verdict.options, fail_on=verdict.fail_on)
    return verdict.give(replace(judged, seconds=time.perf_counter() - start))


@contextlib.contextmanager
def _stdout_is_ours() -> Iterator[None]:
    """What the user's code prints, also from C and from worker processes, goes to stderr."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except BrokenPipeError as error:  # not ours: we write nothing in here
        raise ProbeError("a pipe that the target's code writes to was closed while it ran") from error
    finally:
        os.dup2(saved, 1)
        os.close(saved)


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """A function that draws one line on stderr, if somebody looks; the line is gone in the end."""
    stream = sys.stderr
    if quiet or not stream.isatty():
        yield None
        return

    def draw(stage: str, done: int, total: int) -> None:
        share = min(1.0, done / total) if total > 0 else 0.0
        line = f"{stage[:24]:24}  [{'#' * round(share * 30):30}] {done}/{total}"
        stream.write("\r" + line[: _width() - 1].ljust(_width() - 1))
        stream.flush()

    try:
        yield draw
    finally:
        stream.write("\r" + " " * (_width() - 1) + "\r")
        stream.flush()


# ---- commands that tell ------------------------------------------------------------------------------------------


@app.command()
@_disable_plugin
@_verbose
def rules(disabled: tuple[str, ...], **_: Any) -> None:
    """List every rule, built-in and from plugins."""
    known = plugins.all_rules(disabled)
    foreign = any(r.plugin != plugins.BUILT_IN for r in known)
    rows = [
        [
            r.code,
            r.name,
            r.severity,
            *([r.plugin if r.plugin != plugins.BUILT_IN else ""] if foreign else []),
            _brief(r),
        ]
        for r in known
    ]
    headers = ["code", "name", "severity", *(["plugin"] if foreign else []), "finds"]
    _print(_table(rows, headers))


def _brief(rule: Rule) -> str:
    """The first sentence of the rule's summary."""
    return re.split(r"(?<=[.;:])\s", rule.summary, maxsplit=1)[0].rstrip(".;:")


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """A table whose last column wraps at the terminal's width."""
    columns = [max(len(str(cell)) for cell in column) for column in zip(headers, *rows, strict=True)]
    room = max(20, min(_width(), 120) - sum(columns[:-1]) - 2 * len(columns[:-1]))
    text = tabulate(
        rows, headers, tablefmt="simple", disable_numparse=True, maxcolwidths=[None] * (len(headers) - 1) + [room]
    )
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


@app.command()
@click.argument("rule", metavar="CODE|NAME")
@_disable_plugin
@_verbose
def explain(rule: str, disabled: tuple[str, ...], **_: Any) -> None:
    """Say what a rule measures, why it matters, how to fix it, its options and references."""
    found = plugins.find_rule(plugins.all_rules(disabled), rule)
    page = found.page().strip()
    if found.code not in page.split("\n", 1)[0]:
        page = f"# {found.code} {found.name}\n\n{page}"
    about = [f"Severity: {found.severity}."]
    if found.plugin != plugins.BUILT_IN:
        about.append(f"Plugin: {found.plugin}.")
    if found.options:
        about += ["Options and their defaults:", ""]
    for option in found.options:
        value = f"{option.type.__name__.upper()}   (not set)" if option.default is None else f"{option.default}"
        about.append(f"    --set {found.name}.{option.name}={value}")
    _print("\n".join([page, "", *about]) + "\n")


@app.command()
@_verbose
def schema(**_: Any) -> None:
    """Print the JSON Schema of the report that --format json writes."""
    _print(json_schema())


@app.command("plugins")
@_verbose
def list_plugins(**_: Any) -> int:
    """List what is installed, which rules each plugin brings, and what failed to load."""
    failures: dict[str, PluginError] = {}
    while True:
        try:
            loaded = plugins.load_plugins(failures)
            break
        except PluginError as error:
            if error.plugin in failures or error.plugin == plugins.BUILT_IN:
                raise
            failures[error.plugin] = error
    rows = [[p.name, p.version, _what(p)] for p in loaded]
    _print(_table(rows, ["plugin", "version", "brings"]))
    for failure in failures.values():
        _note(f"error: {failure}")
    return NO_VERDICT if failures else 0


@app.command("settings")
@click.argument("target", required=False)
@_disable_plugin
@_verbose
def list_settings(target: str | None, disabled: tuple[str, ...], **_: Any) -> None:
    """Show which settings are in force for a TARGET, or for the current folder, and where each comes from."""
    file, _known = _project({"target": target}, disabled)
    defaults = {f.name: getattr(_defaults, f.name) for f in fields(ProbeSettings)}
    rows = list(project.in_force(file, {**defaults, "select": ("every rule",), "fail_on": "error"}))
    of = f"settings of {target}: " if target else "settings: "
    where = f"none, for no pyproject.toml here or above has [{project.TABLE}]"
    _print(f"{of}{where if file.path is None else baselines.shown(file.path)}\n\n")
    _print(_table(rows, ["setting", "from", "value"]))


def _what(plugin: plugins.Plugin) -> str:
    """What a plugin brings, in words: "2 rules: ACME101 ACME102; 1 format: csv"."""
    parts = {
        "rule": [r.code for r in plugin.rules],
        "remedy": [f"for {r.code}" for r in plugin.remedies],
        "format": list(plugin.formats),
    }
    said = [
        f"{len(names)} {noun if len(names) == 1 else noun.removesuffix('y') + ('ies' if noun[-1] == 'y' else 's')}: "
        + " ".join(names)
        for noun, names in parts.items()
        if names
    ]
    return "; ".join(said) or "nothing"


# ---- the terminal ------------------------------------------------------------------------------------------------


def _print(text: str) -> None:
    """Write to stdout. A reader that left early (| head) changes nothing about the verdict."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence_stdout()


def _width() -> int:
    return shutil.get_terminal_size((80, 24)).columns


def _wants_color() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
