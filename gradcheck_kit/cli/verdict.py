"""How a command judges, and where it says it: options and settings in, an exit status out."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from gradcheck_kit import baseline as baselines
from gradcheck_kit import plugins
from gradcheck_kit import settings as project
from gradcheck_kit.cli.options import Command, verdict_options
from gradcheck_kit.cli.terminal import note, show, wants_color, width
from gradcheck_kit.errors import UsageError
from gradcheck_kit.render.text import render_text
from gradcheck_kit.report import Report
from gradcheck_kit.rule import OptionValue, Rule, Severity
from gradcheck_kit.settings import Settings
from gradcheck_kit.trace import write_atomically

NO_VERDICT = 2


@dataclass(frozen=True, slots=True)
class Verdict:
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
            note("no verdict: " + (f"{crashed} crashed" if crashed else "no rule ran; -v says why"))
        if self.output is None:
            show(self.render(report, color=wants_color(), width=min(width(), 100)))
        else:
            try:
                write_atomically(self.output, self.render(report))
            except OSError as error:
                raise UsageError(f"cannot write -o {self.output}: {error.strerror}; choose another file") from error
        return 0 if self.exit_zero and report.exit_status == 1 else report.exit_status

    def _compared(self, report: Report) -> Report:
        if self.write_baseline is not None and report.exit_status == NO_VERDICT:
            note(f"{self.write_baseline} is not written: there is no verdict")
            return report
        if self.write_baseline is not None:
            known = baselines.updated(_baseline(self.write_baseline, new=True), report)
            baselines.save(known)
            findings = sum(len(o.findings) for o in report.outcomes)
            of = f"{findings} finding{'s' * (findings != 1)} of {report.trace.header.name}"
            note(f"wrote {of} to {self.write_baseline}")
            return baselines.compare(report, known)
        if self.baseline is None:
            return report
        report = baselines.compare(report, baselines.load(self.baseline))
        if self.format != "text" and report.baseline is not None:
            for entry in report.baseline.stale:
                note(f"stale in {report.baseline.path}: {entry.code} {entry.rule} at {', '.join(entry.places)}")
        return report

    def render(self, report: Report, *, color: bool = False, width: int = 80) -> str:
        if self.format == "text":
            return render_text(report, quiet=self.quiet, verbose=self.verbose, color=color, width=width)
        return self.formats[self.format](report).rstrip("\n") + "\n"


def judging(command: Callable[..., int]) -> Command:
    """Give a command the options that select rules and write a report; it gets them as one `Verdict`."""

    @verdict_options
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
        file, known = project_of(others, disabled, off=no_settings)
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
        path = None if output in (None, "-") else writable("-o", Path(str(output)), read)
        if baseline is not None and write_baseline is not None:
            raise UsageError("--baseline and --write-baseline are two things; write first, then compare")
        kept = None if write_baseline is None else writable("--write-baseline", Path(write_baseline), inputs)
        if kept is not None:
            _baseline(kept, new=True)  # a file that is no baseline is found out before the probe
            if path is not None and path.resolve() == kept.resolve():
                raise UsageError(f"--write-baseline and -o are both {output}; a baseline and a report need a file each")
        elif compared is not None:
            _baseline(compared)
        verdict = Verdict(
            rules, options, fail_on, exit_zero, format_, formats, path, quiet, verbose,
            replace(file, baseline=None), compared, kept,
        )  # fmt: skip
        return command(verdict=verdict, **others)

    return judged


def _typed(option: str) -> bool:
    """Whether the option stands on the command line, so that it beats the settings."""
    return click.get_current_context().get_parameter_source(option) is ParameterSource.COMMANDLINE


def project_of(
    given: dict[str, Any], disabled: Sequence[str], *, off: bool = False
) -> tuple[Settings, tuple[Rule, ...]]:
    """The settings that are in force for what is examined, and the rules that there are."""
    path = None if off else project.find(project.folder_of(str(given.get("target") or given.get("script") or "")))
    known = project.known_rules(path, disabled)
    return Settings() if path is None else project.load(path, known), known


def _baseline(path: Path, *, new: bool = False) -> baselines.Baseline:
    """The baseline in a file; an empty one where it is to be made."""
    return baselines.Baseline(path) if new and not path.exists() else baselines.load(path)


def writable(option: str, path: Path, inputs: Sequence[Path]) -> Path:
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
