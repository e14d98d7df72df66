"""What is written to the terminal: stdout holds the report and nothing else, all other things go to stderr."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator

from gradcheck_kit.errors import ProbeError

NAME = "gradcheck-kit"


def note(message: str) -> None:
    one_line = " ".join(line.strip() for line in message.splitlines() if line.strip())
    with contextlib.suppress(BrokenPipeError):
        print(f"{NAME}: {one_line}", file=sys.stderr, flush=True)


def silence_stdout() -> None:
    """Point stdout nowhere, so that the interpreter's last flush does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def stdout_is_ours() -> Iterator[None]:
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
def progress_line(*, quiet: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """A function that draws one line on stderr, if somebody looks; the line is gone in the end."""
    stream = sys.stderr
    if quiet or not stream.isatty():
        yield None
        return

    def draw(stage: str, done: int, total: int) -> None:
        share = min(1.0, done / total) if total > 0 else 0.0
        line = f"{stage[:24]:24}  [{'#' * round(share * 30):30}] {done}/{total}"
        stream.write("\r" + line[: width() - 1].ljust(width() - 1))
        stream.flush()

    try:
        yield draw
    finally:
        stream.write("\r" + " " * (width() - 1) + "\r")
        stream.flush()


def show(text: str) -> None:
    """Write to stdout. A reader that left early (| head) changes nothing about the verdict."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()


def width() -> int:
    return shutil.get_terminal_size((80, 24)).columns


def wants_color() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
