"""The table of supported cases, read off the tests that prove them: python tests/hard_cases/cases.py"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tabulate import tabulate

FILES = ("test_forms.py", "test_compiled.py", "test_precision.py", "test_optimizers.py", "test_batches.py")


def cases() -> Iterator[list[str]]:
    """What each test marked with @pytest.mark.case(CASE, RESULT) says."""
    for name in FILES:
        for node in ast.parse((Path(__file__).parent / name).read_text("utf-8")).body:
            for mark in node.decorator_list if isinstance(node, ast.FunctionDef) else ():
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.case":
                    yield [ast.literal_eval(argument) for argument in mark.args]


def table() -> str:
    return tabulate(list(cases()), ["", "what happens"], tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    print(table())
