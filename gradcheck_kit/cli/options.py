"""The options of the commands, each checked as far as it can be by itself."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import click

from gradcheck_kit import settings as project
from gradcheck_kit.render import FORMATS
from gradcheck_kit.target import ProbeSettings

VERBOSE = "gradcheck_kit.verbose"  # key of click's context: whether to show tracebacks


class Number(click.FloatRange):
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


verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    is_eager=True,
    callback=_set_verbose,
    help="More detail: reasons of skips, every block, tracebacks.",
)

disable_option = click.option(
    "--disable-plugin", "disabled", multiple=True, metavar="NAME", help="Leave this plugin out; repeatable."
)

_DEFAULTS = ProbeSettings()

probe_options = _options(
    click.option(
        "--steps",
        metavar="N",
        type=click.IntRange(1),
        default=_DEFAULTS.steps,
        show_default=True,
        help="Length of the training run.",
    ),
    click.option("--batch-size", metavar="N", type=click.IntRange(1), help="Samples per step."),
    click.option(
        "--seed",
        metavar="N",
        type=click.IntRange(0, 2**32 - 1),
        default=_DEFAULTS.seed,
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
        "--lr", metavar="F", type=Number(0, min_open=True), help="Learning rate of the optimizer that the probe makes."
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

verdict_options = _options(
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
    disable_option,
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
    verbose_option,
)
