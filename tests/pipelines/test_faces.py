"""Functions of commands return data: none of their rooms writes to a person but `render`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PIPELINES = Path(__file__).parents[2] / "pipelines"
ROOMS = ("commands", "sampling", "doctor", "sheet", "figures")
MODULES = [path for room in ROOMS for path in sorted((PIPELINES / room).rglob("*.py"))]
WRITERS = {"print", "Console", "echo", "secho"}
"""Names by which a module prints, whatever they are attributes of: `rich.print`, `typer.echo`."""
STREAMS = {"stdout", "stderr"}
"""Attributes of `sys`; those of a process that has ended are text."""


def writers(source: str) -> Iterator[str]:
    """Every use of such a name, with its line; the import of one under another name too."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Name):
            names = [node.id]
        elif isinstance(node, ast.Attribute):
            of_sys = isinstance(node.value, ast.Name) and node.value.id == "sys"
            names = [node.attr] if of_sys or node.attr not in STREAMS else []
        elif isinstance(node, ast.ImportFrom):
            names = [alias.name for alias in node.names]
        for name in (WRITERS | STREAMS).intersection(names):
            yield f"line {getattr(node, 'lineno', 0)}: {name}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PIPELINES)))
def test_only_render_modules_print(path: Path) -> None:
    assert list(writers(path.read_text())) == [], "return it, or hand it to a watch; a render module shows it"


@pytest.mark.parametrize(
    "source",
    [
        "print('x')",
        "import rich\nrich.print('x')",
        "from rich.console import Console as C",
        "import rich.console\nrich.console.Console()",
        "import typer\ntyper.echo('x')",
        "import sys\nsys.stderr.write('x')",
        "from sys import stdout as out",
        "tell = print",
    ],
)
def test_whatever_prints_is_noticed(source: str) -> None:
    assert list(writers(source))


def consoles(source: str) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "Console":
            yield node


@pytest.mark.parametrize("path", sorted(PIPELINES.rglob("*.py")), ids=lambda path: str(path.relative_to(PIPELINES)))
def test_no_text_is_taken_for_markup(path: Path) -> None:
    """Names of files, tiers and filters, and a recipe's own `[images]`, are shown as they are. A console that is asked
    for its width alone prints nothing.
    """
    source = path.read_text()
    for call in consoles(source.replace("Console().width", "0")):
        marks = [word.value for word in call.keywords if word.arg == "markup"]
        assert [isinstance(mark, ast.Constant) and mark.value is False for mark in marks] == [True], (
            f"line {call.lineno}"
        )


def test_what_says_print_and_prints_nothing_is_let_be() -> None:
    assert MODULES and not list(writers("'It does not print.'\nfingerprint = printable(imprint.printed, done.stdout)"))
