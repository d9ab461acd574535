"""`pyramid.json`: what a pyramid says about itself: format version, tiers, recipe. Written whole or not at
all.

The file is what makes a folder a pyramid: `store` writes it after the four datasets exist and reads it before
any of them. On a local disk it is replaced by temp file and rename, in an object store by one PUT.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from curation import atomic
from curation.contract import FORMAT_VERSION
from curation.errors import UserError
from curation.pyramid.tiers import Tiers

FILE = "pyramid.json"

_PATIENCE = {"client_max_retries": "8"}
"""Lance's client asks a store that fails 3 times more: of its requests to one that refuses every third, 1 in 100 fails.
With 8 it is 1 in 10,000, and a store that is not there at all is given up after some seconds.
"""


@dataclass(frozen=True, slots=True)
class About:
    """The content of `pyramid.json`."""

    tiers: Tiers
    recipe: str
    format: int = FORMAT_VERSION

    def to_json(self) -> str:
        data = {"format": self.format, "recipe": self.recipe, "tiers": self.tiers.to_data()}
        return json.dumps(data, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, uri: str) -> About:
        """Parse; a newer format is refused before anything else of the file is looked at."""
        try:
            data = json.loads(text)
            version = int(data["format"])
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"{uri} is not a pyramid: its {FILE} is not readable", "give the path of a pyramid"
            ) from None
        if version > FORMAT_VERSION:
            raise UserError(
                f"{uri} was made by a newer Ziggurat (format {version}, this one reads {FORMAT_VERSION})",
                "upgrade ziggurat and run the command again",
            )
        try:
            return cls(Tiers.from_data(data["tiers"]), str(data["recipe"]), version)
        except (ValueError, KeyError) as error:
            raise UserError(f"{uri}/{FILE} is damaged ({error})", "restore the file, or run curate again") from None


def is_remote(uri: str) -> bool:
    """Whether `uri` names an object store rather than a local path."""
    return "://" in uri


def options(uri: str, given: Mapping[str, str] | None) -> dict[str, str] | None:
    """The storage options for `uri`: those given, and for an object store how often a request is tried."""
    return {**_PATIENCE, **(given or {})} if is_remote(uri) else dict(given) if given else None


def normalize(uri: str | os.PathLike[str]) -> str:
    """A local path made absolute (so that every process of a cluster means the same), other URIs without end
    slash.
    """
    text = os.fspath(uri)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "\x00" in text or not text:
        raise UserError(f"{text!r} is not a path", "give the path or URI of a pyramid")
    return text.rstrip("/") if is_remote(text) else str(Path(text).expanduser().absolute())


def read(uri: str, storage_options: Mapping[str, str] | None) -> About | None:
    """The description of the pyramid at `uri`, None where there is none."""
    if is_remote(uri):
        text = _read_remote(uri, storage_options)
    else:
        path = Path(uri, FILE)
        try:
            text = path.read_text() if path.is_file() else None
        except OSError as error:
            raise UserError(f"cannot read {path} ({error.strerror})", "check its permissions") from error
    return None if text is None else About.from_json(text, uri)


def write(uri: str, about: About, storage_options: Mapping[str, str] | None) -> None:
    """Replace the description at `uri`: a reader sees the old one or the new one."""
    if is_remote(uri):
        _write_remote(uri, about.to_json(), storage_options)
        return
    with atomic.replacing(Path(uri, FILE)) as file:
        file.write(about.to_json().encode())


def _read_remote(uri: str, storage_options: Mapping[str, str] | None) -> str | None:
    from lance.file import LanceFileSession

    session = LanceFileSession(uri, storage_options=dict(storage_options or {}))
    if not session.contains(FILE):
        return None
    with tempfile.TemporaryDirectory() as folder:
        session.download_file(FILE, os.path.join(folder, FILE))
        return Path(folder, FILE).read_text()


def _write_remote(uri: str, text: str, storage_options: Mapping[str, str] | None) -> None:
    from lance.file import LanceFileSession

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, FILE)
        path.write_text(text)
        LanceFileSession(uri, storage_options=dict(storage_options or {})).upload_file(str(path), FILE)
