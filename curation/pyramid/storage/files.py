"""The small files of a pyramid beside its datasets: `pyramid.json`, recipes, plans, clusters, the journal.

Each is written whole or not at all. On a local disk that is a temporary file and a rename; in an object store one PUT,
through the client that Lance opens the datasets with, so that a place which holds datasets takes these files too.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation import atomic

_PATIENCE = {"client_max_retries": "8"}
"""Lance's client asks a store that fails 3 times more: of its requests to one that refuses every third, 1 in 100 fails.
With 8 it is 1 in 10,000, and a store that is not there at all is given up after some seconds.
"""


def is_remote(uri: str) -> bool:
    """Whether `uri` names an object store rather than a local path."""
    return "://" in uri


def options(uri: str, given: Mapping[str, str] | None) -> dict[str, str] | None:
    """The storage options for `uri`: those given, and for an object store how often a request is tried."""
    return {**_PATIENCE, **(given or {})} if is_remote(uri) else dict(given) if given else None


@dataclass(frozen=True, slots=True)
class Files:
    """The files below `uri`, by their names with `/`; cheap to make and to send to a worker.

    Every method raises what the disk or the store fails with (see `retry.is_fault`).
    """

    uri: str
    storage_options: Mapping[str, str] | None = None

    def read(self, name: str) -> bytes | None:
        """The content of a file, None where there is none."""
        if not is_remote(self.uri):
            path = Path(self.uri, name)
            return path.read_bytes() if path.is_file() else None
        session = self._session()
        with tempfile.TemporaryDirectory() as folder:
            part = os.path.join(folder, "part")
            try:
                session.download_file(name, part)
            except (OSError, RuntimeError, ValueError):
                if session.contains(name):
                    raise
                return None  # it never was, or somebody removed it meanwhile
            return Path(part).read_bytes()

    def write(self, name: str, content: bytes, durable: bool = True) -> None:
        """Replace a file: a reader sees the old one or the new one. `durable`: it survives the machine's fall, too."""
        if is_remote(self.uri):
            with tempfile.NamedTemporaryFile() as part:
                part.write(content)
                part.flush()
                self._session().upload_file(part.name, name)
            return
        path = Path(self.uri, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # a file stands there
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path.parent)) from error
        with atomic.replacing(path, durable) as file:
            file.write(content)

    def names(self, folder: str, suffix: str) -> list[str]:
        """The names of the files anywhere below `folder` that end in `suffix`, sorted."""
        if is_remote(self.uri):
            found: Iterable[str] = self._session().list(folder)
        else:
            top = Path(self.uri, folder)
            found = (path.relative_to(self.uri).as_posix() for path in top.rglob(f"*{suffix}"))
        return sorted(name for name in found if name.endswith(suffix) and not name.rpartition("/")[2].startswith("."))

    def remove(self, name: str) -> None:
        """Remove a file; one that is gone already is no error."""
        if not is_remote(self.uri):
            Path(self.uri, name).unlink(missing_ok=True)
            return
        try:
            self._session().delete_file(name)
        except (OSError, RuntimeError, ValueError):
            if self._session().contains(name):
                raise

    def remove_folder(self, folder: str) -> None:
        """Remove all files below `folder`."""
        if is_remote(self.uri):
            for name in self.names(folder, ""):
                self.remove(name)
        else:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(Path(self.uri, folder))

    def _session(self) -> Any:
        given = options(self.uri, self.storage_options) or {}
        return _session(self.uri, tuple(sorted(given.items())))


@functools.lru_cache(maxsize=16)
def _session(uri: str, storage_options: tuple[tuple[str, str], ...]) -> Any:
    from lance.file import LanceFileSession

    return LanceFileSession(uri, storage_options=dict(storage_options))
