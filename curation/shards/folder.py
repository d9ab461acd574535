"""The manifests of a pyramid: `manifests/NAME.json` and the table that it names. Each is written once, and never again.

`freezing` puts them there; whoever encodes, trains or looks opens them by an address: `PYRAMID#NAME`, or the path or
URI of the JSON file. What makes a manifest is that file, which comes last: a table without one is a leftover.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from pathlib import Path

from curation.errors import UserError
from curation.pyramid.storage.files import Files, is_remote
from curation.pyramid.store import Pyramid
from curation.retry import retrying
from curation.shards.manifest import FOLDER, Frozen, Manifest

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_LONGEST = 80
_FILE = re.compile(rf"(?P<pyramid>.+)/{FOLDER}/(?P<name>[^/]+)\.json(?P<options>\?.*)?")
_TABLE = re.compile(r"(?P<name>.+)-[0-9a-f]{12}\.parquet")
_PIN, _PART = "manifest-", ".partial"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS)


def checked(name: str) -> str:
    """The name. UserError: it is none. It goes into names of files and of Lance's tags."""
    if not _NAME.fullmatch(name) or len(name) > _LONGEST or name.endswith(".lock"):
        allowed = f"letters, digits, . _ - and at most {_LONGEST} of them, no dot at an end or beside another"
        raise UserError(f"{name[:100]!r} is no name for a manifest", f"take {allowed}")
    return name


def pin_of(name: str) -> str:
    """The tag of the versions that a manifest was frozen from."""
    return f"{_PIN}{name}"


def parsed(address: str) -> tuple[str, str]:
    """(pyramid, name) of `PYRAMID#NAME` or `PYRAMID/manifests/NAME.json`. UserError: it is neither."""
    if found := _FILE.fullmatch(address):
        return found["pyramid"] + (found["options"] or ""), checked(found["name"])
    pyramid, hash_, name = address.rpartition("#")
    if not (hash_ and pyramid and name):
        raise UserError(f"{address!r} names no manifest", "write PYRAMID#NAME; `ziggurat manifests PYRAMID` lists them")
    return pyramid, checked(name)


def opened(address: str) -> tuple[Pyramid, Frozen]:
    """The manifest at an address, and the pyramid that it lies in."""
    uri, name = parsed(address)
    pyramid = Pyramid.open(uri)
    return pyramid, read(pyramid, name)


def open_manifest(pyramid_uri: str, name: str) -> Frozen:
    """The manifest of this name. UserError: there is none, or it is not what was frozen."""
    return read(Pyramid.open(pyramid_uri), checked(name))


def read(pyramid: Pyramid, name: str) -> Frozen:
    """A manifest with its samples."""
    manifest = head(pyramid.files, name)
    if manifest is None:
        there = listed(pyramid.files)
        remedy = f"it has {', '.join(there)}" if there else "it has none yet: see `ziggurat freeze`"
        raise UserError(f"{pyramid.uri} has no manifest {name!r}", remedy)
    content = _content(pyramid.files, f"{FOLDER}/{manifest.file}")
    if content is None:
        raise UserError(f"{manifest.file}, the table of {name}, is gone", "take it back from a copy, or freeze again")
    return Frozen.read(manifest, content)


def listed(files: Files) -> list[str]:
    """The names of the manifests, sorted."""
    found = retrying(f"cannot read {files.uri}", lambda: files.names(FOLDER, ".json"))
    return [name.removeprefix(f"{FOLDER}/").removesuffix(".json") for name in found]


def head(files: Files, name: str) -> Manifest | None:
    """A manifest without its samples; None where there is none."""
    path = f"{FOLDER}/{name}.json"
    content = _content(files, path)
    return None if content is None else Manifest.from_json(content, f"{files.uri}/{path}")


def put(files: Files, manifest: Manifest, table: bytes) -> None:
    """Write a sealed manifest, its table first. UserError where the name is taken, by now or in this moment."""
    what = f"cannot write to {files.uri}"
    retrying(what, lambda: files.write(f"{FOLDER}/{manifest.file}", table))
    name, content = f"{FOLDER}/{manifest.name}.json", manifest.to_json()
    if not retrying(what, lambda: _put_new(files, name, content)):
        raise taken(manifest.name)


def taken(name: str) -> UserError:
    """What to raise where there is a manifest of this name."""
    return UserError(f"there is a manifest {name} already, and it never changes", "freeze under another name")


def tidied(pyramid: Pyramid, name: str) -> None:
    """Remove what killed freezes have left: tables and pins without a manifest. Of this name alone in an object store,
    where nothing tells whether another one is at work.
    """
    files = pyramid.files
    there = set(listed(files))
    mine = (lambda one: one == name) if is_remote(files.uri) else (lambda one: one not in there)
    assert name not in there, name
    for path in retrying(f"cannot read {files.uri}", lambda: files.names(FOLDER, ".parquet")):
        found = _TABLE.fullmatch(path.removeprefix(f"{FOLDER}/"))
        if found and mine(found["name"]):
            retrying(f"cannot write to {files.uri}", lambda path=path: files.remove(path))
    for part in [] if is_remote(files.uri) else Path(files.uri, FOLDER).glob(f".*{_PART}"):
        part.unlink(missing_ok=True)
    for tag in {tag for dataset in pyramid.names for tag in pyramid.dataset(dataset).tags.list()}:
        if tag.startswith(_PIN) and mine(tag.removeprefix(_PIN)):
            unpin(pyramid, tag)


def unpin(pyramid: Pyramid, tag: str) -> None:
    """Take a tag away wherever it is set: a pin that was cut short is not in all datasets."""
    for name in pyramid.names:
        tags = pyramid.dataset(name).tags
        if tag in tags.list():
            tags.delete(tag)


def _content(files: Files, name: str) -> bytes | None:
    return retrying(f"cannot read {files.uri}", lambda: files.read(name))


def _put_new(files: Files, name: str, content: bytes) -> bool:
    """Write a file that is not there yet; False where it is another's. Whole, or not at all.

    An object store offers Lance's client no such request: there the file is looked at, written, and read back.
    """
    there = files.read(name)
    if there is not None:
        return there == content  # an earlier attempt of ours whose answer was lost
    if is_remote(files.uri):
        files.write(name, content)
        return files.read(name) == content
    path = Path(files.uri, name)
    part = path.with_name(f".{secrets.token_hex(8)}{_PART}")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(part, path)
        except FileExistsError:
            return path.read_bytes() == content
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            os.rename(part, path)  # a disk without hard links: the lock of `freezing` keeps others away
        return True
    finally:
        with contextlib.suppress(FileNotFoundError):
            part.unlink()
