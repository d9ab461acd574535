"""Outputs for people and other programs: a file or a new folder, local or in an object store, whole or not at all.

Last in the flow: exports, sheets and the like are written through it, and no other module opens an output by name.
A local file is replaced in one step (`curation.atomic`). One for an object store is written to a temporary file first
and then sent as one object, which the store shows when it is complete. Where that fails, what was there stays.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast
from urllib.parse import urlsplit

from curation import atomic
from curation.errors import UserError
from curation.inputs import uris
from curation.pyramid.storage import address
from curation.pyramid.storage.files import is_remote, options
from curation.retry import explained

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from lance.file import LanceFileSession

_ELSEWHERE = "choose another place"


def check(name: str) -> str:
    """The output `name`, made absolute where it is local. UserError where it is of an unknown kind or out of reach.

    Nothing is written, so that a wrong place is told before any work.
    """
    kind = uris.scheme(name)
    if kind in address.SCHEMES and "://" in name:
        _reach(name)
        return name
    if kind and kind != "file":
        known = ", ".join(f"{one}://" for one in ("file", *address.SCHEMES))
        raise UserError(f"cannot write to '{kind}:'", f"give a path or one of {known} (a local file: ./{kind}:...)")
    if not name or "\0" in name:
        raise UserError(f"{name!r} is not the name of a file", "give a path or a URI")
    return os.path.abspath(_path(name) if kind else os.path.expanduser(name))


def check_file(name: str) -> str:
    """As `check`, for one file: also whether a local one can be made or replaced."""
    place = check(name)
    if is_remote(place):
        return place
    path = Path(os.path.realpath(place))
    if path.is_dir():
        raise UserError(f"{place} is a folder", "give the name of a file")
    if path.exists() and not path.is_file():
        raise UserError(f"{place} is not a file that can be replaced", _ELSEWHERE)
    if not path.parent.is_dir():
        raise UserError(f"the folder {path.parent} does not exist", f"make it with `mkdir -p {path.parent}`")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise UserError(f"the folder {path.parent} cannot be written", _ELSEWHERE)
    return place


def exists(place: str) -> bool:
    """Whether there is an object of this name in its store."""
    with _told(place):
        return _session(place).contains("")


def suffix(name: str) -> str:
    """The suffix of an output's name, in lower case; "" for what ends in a slash, and for a folder."""
    bare = name.partition("?")[0] if is_remote(name) else name
    return "" if bare.endswith("/") else os.path.splitext(bare)[1].lower()


@contextlib.contextmanager
def replacing(name: str) -> Iterator[IO[bytes]]:
    """A file whose content takes the place of `name` when the block ends well, in one step. `name`: see `check_file`.

    UserError where the disk or the store refuses.
    """
    place = check_file(name)
    with _writing(place) as file:
        yield file


def write(name: str, content: bytes) -> None:
    """Replace `name` by `content` in one step."""
    with replacing(name) as file:
        file.write(content)


class Folder:
    """A folder that is being filled; see `new_folder`."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._written: list[str] = []

    def add(self, file_name: str, content: bytes) -> None:
        """One more file, whole or not at all. `file_name` is one part of a path, and new."""
        place = self.file(file_name)
        self._written.append(place)
        with _writing(place, durable=False) as file:
            file.write(content)

    def file(self, file_name: str) -> str:
        """The place of a file in it."""
        assert file_name and "/" not in file_name and not file_name.startswith("."), file_name
        return uris.child(self._place, file_name) if is_remote(self._place) else f"{self._place}/{file_name}"

    def empty(self) -> None:
        """Take back what was added."""
        for place in self._written:
            with contextlib.suppress(OSError, RuntimeError, ValueError):
                if is_remote(place):
                    _session(place).delete_file("")
                else:
                    Path(place).unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(name: str, mark: str) -> Iterator[tuple[Folder, IO[bytes]]]:
    """A folder to fill, and its file `mark`, which appears last: where that is, the folder is whole.

    It must be new or empty. Where the block fails, what it has written is removed again.
    """
    place = check(name)
    made = _new_remote(place) if is_remote(place) else _new_local(Path(place))
    folder = Folder(place)
    try:
        with _writing(folder.file(mark)) as file:
            yield folder, file
    except BaseException:
        folder.empty()
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def _new_local(path: Path) -> list[Path]:
    """Make a folder; those that were missing, the deepest first."""
    try:
        missing = [one for one in (path, *path.parents) if not one.exists()]
        path.mkdir(parents=True, exist_ok=True)
        occupied = any(path.iterdir())
    except OSError as error:
        raise UserError(f"cannot write to {path} ({error.strerror})", "choose another folder") from error
    if occupied:
        raise UserError(f"{path} is not empty", "choose a new folder")
    return missing


def _new_remote(place: str) -> list[Path]:
    found = _session(place).list_with_delimiter("")
    if found.common_prefixes or found.objects:
        raise UserError(f"{_bare(place)} is not empty", "choose a new folder")
    return []


@contextlib.contextmanager
def _writing(place: str, durable: bool = True) -> Iterator[IO[bytes]]:
    """`replacing` for a place that was checked. What the block itself raises passes as it is: only faults of opening,
    writing and renaming are faults of this place.
    """
    opened = _sent(place) if is_remote(place) else atomic.replacing(place, durable)
    with _told(place):
        file = opened.__enter__()
    try:
        yield cast("IO[bytes]", _Output(file, place))
    except BaseException as error:
        with _told(place):  # closing it may fail in turn: on a full disk, with what is still to be written
            opened.__exit__(type(error), error, error.__traceback__)
        raise
    with _told(place):
        opened.__exit__(None, None, None)


class _Output(io.BufferedIOBase):
    """The file that a block writes into, such that a fault of writing is told from one of the block."""

    def __init__(self, file: IO[bytes], place: str) -> None:
        self._file, self._place = file, place

    def writable(self) -> bool:
        return True

    def write(self, content: ReadableBuffer, /) -> int:
        with _told(self._place):
            return self._file.write(content)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        if not self._file.closed:
            with _told(self._place):
                self._file.flush()


@contextlib.contextmanager
def _told(place: str) -> Iterator[None]:
    """Faults of the disk and the store in one line that names the place."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        what = f"cannot write {_bare(place)}"
        if isinstance(error, OSError) and error.errno is not None:
            room = f"in {tempfile.gettempdir()}, where it is written first" if is_remote(place) else "there"
            raise UserError(f"{what} ({error.strerror})", f"free space {room}, or {_ELSEWHERE}") from error
        if (known := explained(error, what)) is not None:
            raise known from error
        raise


@contextlib.contextmanager
def _sent(place: str) -> Iterator[IO[bytes]]:
    with tempfile.NamedTemporaryFile(prefix="ziggurat-") as file:
        yield file
        file.flush()
        _session(place).upload_file(file.name, "")


def _session(place: str) -> LanceFileSession:
    """The object `place` itself, not one below it: Lance would spell that one's name in its own way."""
    from lance.file import LanceFileSession

    uri, given = address.located(place)
    return LanceFileSession(uri, storage_options=options(uri, given))


def _reach(place: str) -> None:
    address.located(place)  # before anything repeats the name: a secret in it is refused
    if not urlsplit(_bare(place)).path.strip("/"):
        raise UserError(f"{_bare(place)} names no object", "give a name below the bucket")
    try:
        _session(place).contains("")
    except (OSError, RuntimeError, ValueError) as error:
        what = f"cannot reach {_bare(place)}"
        raise explained(error, what) or UserError(
            f"{what} ({' '.join(str(error).split())[:200]})", "check the URI and its credentials"
        ) from error


def _bare(place: str) -> str:
    return place.partition("?")[0] if is_remote(place) else place


def _path(uri: str) -> str:
    try:
        path = uris.local_path(uris.check(uri))
    except uris.Forbidden as error:
        raise UserError(f"cannot write to {uri[:200]}: {error}", "give a path or file:///absolute/path") from None
    assert path is not None, uri
    return path
