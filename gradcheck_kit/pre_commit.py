"""`gradcheck-kit scan` for the files that pre-commit passes: each in a process of its own, with the same options.

python -m gradcheck_kit.pre_commit --steps 20 model.py encoder.py
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """The worst exit status of the scans: 2 where one has no verdict, else 1 where one has a finding, else 0."""
    split = len(arguments)
    while split and arguments[split - 1].endswith(".py"):
        split -= 1
    options, files = arguments[:split], arguments[split:]
    scan = [sys.executable, "-m", "gradcheck_kit", "scan", *options]
    statuses = [subprocess.run([*scan, file], check=False).returncode for file in files]  # noqa: S603  # our own command
    # A scan that a signal ended has a negative status, and no verdict.
    return max((status if status in (0, 1) else 2 for status in statuses), default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
