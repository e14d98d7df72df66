"""Programs in plain files, as people write them, by two who had seen nothing of the tool but its rules' names.

The causes that a fair reader accepts were written down before any scan; `plain_files/causes.json` holds them.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from gradcheck_kit.target.load import load_target

FOLDER = Path(__file__).parent / "plain_files"
FILES = {path.stem: partial(load_target, str(path)) for path in sorted(FOLDER.glob("*.py"))}

PLAIN_HEALTHY = {name: make for name, make in FILES.items() if name.startswith("healthy_")}
PLAIN_BROKEN = {
    name: (FILES[name], tuple(causes))
    for name, causes in json.loads((FOLDER / "causes.json").read_text(encoding="utf-8")).items()
}
