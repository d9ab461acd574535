"""The recipes that a pyramid has kept: `recipes/0001.toml` and on, each the whole text that a command was given.

A text never changes once it is there. `pyramid.json` says which version is the pyramid's and what its hash is, and is
written after it.
"""

from __future__ import annotations

import hashlib

from curation.errors import UserError
from curation.pyramid.storage.files import Files

FOLDER = "recipes"
_SUFFIX = ".toml"


def keep(files: Files, text: str) -> int:
    """Keep a text; its version. One that a kill left without a `pyramid.json` that names it is passed over."""
    version = max(versions(files), default=0) + 1
    files.write(_name(version), text.encode())
    return version


def digest(text: str) -> str:
    """The SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def read(files: Files, version: int, sha256: str | None = None) -> str:
    """The text of a version; UserError where it is gone, no text, or not the one with this hash (None: any)."""
    content, remedy = files.read(_name(version)), "restore it, or give the recipe anew with --replace-recipe"
    if content is None:
        raise UserError(f"{files.uri}/{_name(version)} is missing", remedy)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{files.uri}/{_name(version)} is damaged ({error.reason})", remedy) from None
    if sha256 is not None and digest(text) != sha256:
        raise UserError(f"{files.uri}/{_name(version)} is not the text that was kept", remedy)
    return text


def versions(files: Files) -> list[int]:
    """The versions that are there, in order."""
    names = (name.rpartition("/")[2].removesuffix(_SUFFIX) for name in files.names(FOLDER, _SUFFIX))
    return sorted(int(name) for name in names if name.isdigit())


def _name(version: int) -> str:
    return f"{FOLDER}/{version:04d}{_SUFFIX}"
