"""A module that prose names is there: in docs, docstrings and comments, and in code that a process gets as text."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("curation", "pipelines", "training", "kernels", "bench", "tests")
PLANNED = {"curation.filters.colour"}
"""The filter that docs/filters.md adds to show how."""

_NAME = re.compile(rf"(?<![\w./])(?:{'|'.join(PACKAGES)})(?:\.[a-z_0-9]+)+(?![\w/])")
_PATH = re.compile(rf"(?<![\w./])(?:{'|'.join(PACKAGES)})/[\w/]+\.py\b")
_FILES = (".md", ".py", ".toml", ".a")
TEXTS = [*sorted(ROOT.glob("docs/*.md")), ROOT / "README.md", ROOT / "Makefile", ROOT / "pyproject.toml"]
TEXTS += [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def prose(path: Path) -> Iterator[str]:
    """All of a text; of a Python file its strings and comments."""
    if path.suffix != ".py":
        yield path.read_text()
        return
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT) or token.type == getattr(tokenize, "FSTRING_MIDDLE", -1):
            yield token.string


def leads_nowhere(name: str) -> bool:
    """Whether a dotted name leaves our packages for what is neither a module nor named in a module."""
    place = ROOT
    for part in name.split("."):
        if (place / part).is_dir():
            place = place / part
        else:
            known = (place / f"{part}.py").is_file()
            return not known and not re.search(rf"\b{part}\b", (place / "__init__.py").read_text())
    return False


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_that_is_named_is_there(path: Path) -> None:
    named = {name for text in prose(path) for name in _NAME.findall(text) if not name.endswith(_FILES)}
    assert [name for name in sorted(named - PLANNED) if leads_nowhere(name)] == []
    paths = {name for text in prose(path) for name in _PATH.findall(text)}
    assert [name for name in sorted(paths) if not (ROOT / name).is_file()] == []


def test_a_name_that_no_module_has_is_noticed() -> None:
    assert leads_nowhere("curation.media" + ".nothing") and not leads_nowhere("curation.media.stream.scan.scan")
