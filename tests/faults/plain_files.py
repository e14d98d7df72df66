"""Programs in plain files, as people write them, by seven who had seen nothing of the tool but its rules' names.

The causes that a fair reader accepts were written down before any scan, in the `causes.json` of each folder. The files
of the grid are ten healthy programs, with faults that such programs have, and ten that look odd and are right. Those of
the last part are by four: `a` (and `e`, what was left over) models off the beaten track, `b` what students hand in, `c`
bugs that cost people days, `d` what experts do.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from gradcheck_kit.target import Target
from gradcheck_kit.target.load import load_target

Make = Callable[[], Target]


def _read(folder: str) -> tuple[dict[str, Make], dict[str, Make], dict[str, tuple[Make, tuple[str, ...]]]]:
    """All files of a folder by name, the healthy ones, and the broken ones with their causes."""
    here = Path(__file__).parent / folder
    files: dict[str, Make] = {path.stem: partial(load_target, str(path)) for path in sorted(here.glob("*.py"))}
    healthy = {name: make for name, make in files.items() if name.startswith("healthy_")}
    causes = json.loads((here / "causes.json").read_text(encoding="utf-8"))
    return files, healthy, {name: (files[name], tuple(accepted)) for name, accepted in causes.items()}


FILES, PLAIN_HEALTHY, PLAIN_BROKEN = _read("plain_files")
GRID_FILES, GRID_HEALTHY, GRID_BROKEN = _read("grid_files")
BLIND_FILES, BLIND_HEALTHY, BLIND_BROKEN = _read("blind_files")
