"""Modules and functions stay small enough to be read at once."""

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "core").rglob("*.py"), *(ROOT / "plugins").glob("*/src/**/*.py")])
MODULE_LINES = 400
FUNCTION_LINES_P90 = 25


def function_lines(path: Path) -> Iterator[int]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            yield node.end_lineno - node.lineno + 1


def test_no_module_is_too_long():
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in SOURCES}

    assert {name: length for name, length in lengths.items() if length > MODULE_LINES} == {}


def test_nine_functions_of_ten_fit_on_a_screen():
    lengths = [length for path in SOURCES for length in function_lines(path)]

    assert statistics.quantiles(lengths, n=10)[-1] <= FUNCTION_LINES_P90
