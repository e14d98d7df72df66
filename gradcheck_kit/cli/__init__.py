"""The command line: scan, report, rules, explain, schema, plugins, settings.

Exit status: 0 nothing failed, 1 a finding at or above --fail-on, 2 no verdict. Only `scan` imports torch.
stdout holds the report and nothing else; progress, notes and errors go to stderr.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NoReturn

import click
from tabulate import tabulate

from gradcheck_kit import __version__, plugins
from gradcheck_kit import baseline as baselines
from gradcheck_kit import settings as project
from gradcheck_kit.cli.options import VERBOSE, Number, disable_option, probe_options, verbose_option
from gradcheck_kit.cli.terminal import NAME, note, progress_line, show, silence_stdout, stdout_is_ours, width
from gradcheck_kit.cli.verdict import NO_VERDICT, Verdict, judging, project_of, writable
from gradcheck_kit.errors import GradcheckKitError, PluginError, UsageError
from gradcheck_kit.facts import FACTS
from gradcheck_kit.render.json import json_schema
from gradcheck_kit.report import check
from gradcheck_kit.rule import Rule
from gradcheck_kit.target import ProbeSettings
from gradcheck_kit.trace import Trace

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
        silence_stdout()
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
    note(message)
    return NO_VERDICT


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


# ---- commands that judge -----------------------------------------------------------------------------------------


@app.command()
@click.argument("target")
@probe_options
@click.option("--min-accuracy", metavar="F", type=Number(0, 1), help="The least accuracy on test data, 0 to 1.")
@click.option("--save", metavar="TRACE", help="Keep what the probe saw, for `report`.")
@judging
def scan(target: str, verdict: Verdict, min_accuracy: float | None, save: str | None, **given: Any) -> int:
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
        else writable(
            "--save", Path(save), [Path(target.partition(":")[0]), *([verdict.baseline] if verdict.baseline else [])]
        )
    )
    if kept is not None and verdict.output is not None and kept.resolve() == verdict.output.resolve():
        raise UsageError(f"--save and -o are both {save}; a trace and a report need a file each")
    if kept is not None and verdict.write_baseline is not None and kept.resolve() == verdict.write_baseline.resolve():
        raise UsageError(f"--save and --write-baseline are both {save}; a trace and a baseline need a file each")
    # Threads of OpenMP that spin while they wait make two probes on two cores twenty times slower than one.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    with stdout_is_ours(), progress_line(quiet=verdict.quiet) as progress:
        from gradcheck_kit.probe import scan_target

        report = scan_target(
            target, settings, rules=verdict.rules, options=verdict.options, fail_on=verdict.fail_on, progress=progress
        )
    if kept is not None:
        report.trace.save(kept)
    return verdict.give(report)


@app.command()
@click.argument("trace")
@judging
def report(trace: str, verdict: Verdict) -> int:
    """Apply the rules again to a saved TRACE; imports no torch."""
    start = time.perf_counter()
    extra = {fact for rule in verdict.rules for fact in (*rule.needs, *rule.uses)} - set(FACTS)
    loaded = Trace.load(Path(trace), extra)
    judged = check(loaded, verdict.rules, options=verdict.options, fail_on=verdict.fail_on)
    return verdict.give(replace(judged, seconds=time.perf_counter() - start))


# ---- commands that tell ------------------------------------------------------------------------------------------


@app.command()
@disable_option
@verbose_option
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
    show(_table(rows, headers))


def _brief(rule: Rule) -> str:
    """The first sentence of the rule's summary."""
    return re.split(r"(?<=[.;:])\s", rule.summary, maxsplit=1)[0].rstrip(".;:")


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """A table whose last column wraps at the terminal's width."""
    columns = [max(len(str(cell)) for cell in column) for column in zip(headers, *rows, strict=True)]
    room = max(20, min(width(), 120) - sum(columns[:-1]) - 2 * len(columns[:-1]))
    text = tabulate(
        rows, headers, tablefmt="simple", disable_numparse=True, maxcolwidths=[None] * (len(headers) - 1) + [room]
    )
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


@app.command()
@click.argument("rule", metavar="CODE|NAME")
@disable_option
@verbose_option
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
    show("\n".join([page, "", *about]) + "\n")


@app.command()
@verbose_option
def schema(**_: Any) -> None:
    """Print the JSON Schema of the report that --format json writes."""
    show(json_schema())


@app.command("plugins")
@verbose_option
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
    show(_table(rows, ["plugin", "version", "brings"]))
    for failure in failures.values():
        note(f"error: {failure}")
    return NO_VERDICT if failures else 0


@app.command("settings")
@click.argument("target", required=False)
@disable_option
@verbose_option
def list_settings(target: str | None, disabled: tuple[str, ...], **_: Any) -> None:
    """Show which settings are in force for a TARGET, or for the current folder, and where each comes from."""
    file, _known = project_of({"target": target}, disabled)
    defaults = {f.name: getattr(ProbeSettings(), f.name) for f in fields(ProbeSettings)}
    rows = list(project.in_force(file, {**defaults, "select": ("every rule",), "fail_on": "error"}))
    of = f"settings of {target}: " if target else "settings: "
    where = f"none, for no pyproject.toml here or above has [{project.TABLE}]"
    show(f"{of}{where if file.path is None else baselines.shown(file.path)}\n\n")
    show(_table(rows, ["setting", "from", "value"]))


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
