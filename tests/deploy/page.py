"""The command lines of docs/deploy.md, for those who check them and those who run them."""

from __future__ import annotations

import shlex

from tests.deploy.manifests import ROOT

PAGE = ROOT / "docs" / "deploy.md"


def commands(program: str, heading: str | None = None) -> list[list[str]]:
    """The command lines that call `program`, themselves or by `exec` in a container; those below a `## heading`."""
    text = PAGE.read_text()
    if heading is not None:
        (text,) = [part for part in text.split("\n## ") if part.startswith(f"{heading}\n")]
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    found = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if "exec" in words and words[0] != program:
            words = words[words.index("exec") :]
            words = words[words.index(program) :] if program in words else []
        if words and words[0] == program:
            found.append(words)
    return found
