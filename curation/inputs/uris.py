"""Names and URIs of inputs: which are allowed, where they lead, how they are written down (promise P13).

First thing in the flow: `sources` lists with it and `staging` opens with it; no other module reads a URI. A
local file is written as its absolute path, or as a `file://` URI where the path is not UTF-8; anything else
as the URI it was given by. What is neither a plain path nor one of `SCHEMES` is refused before anything is
opened.
"""

from __future__ import annotations

import functools
import os
import re
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

import pyarrow as pa
from pyarrow import fs

from curation.contract import Reason
from curation.errors import UserError

SCHEMES = frozenset({"s3", "gs", "gcs", "hdfs", "viewfs", "abfs", "abfss", "az"})
"""Remote storage that is opened. No `http`, `data`, `pipe`, `concat`: those belong to decoders."""

AZURE_ACCOUNT = "AZURE_STORAGE_ACCOUNT_NAME"
"""The environment variable with the account of an `az://CONTAINER/PATH`, as Azure's other tools read it."""

LONGEST = 4096

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):")
_SECRET = re.compile(r"secret|token|pass|key|^sig$|signature|credential(?!_kind$)", re.IGNORECASE)
"""Names of options that hold secrets: of object stores, and of links that are signed."""


class Forbidden(ValueError):
    """A name that is refused; the message says why, `reason` what its video ends in."""

    reason = Reason.OUTSIDE


class Unusable(Forbidden):
    """A name that can be no file's."""

    reason = Reason.UNREADABLE


def scheme(name: str) -> str:
    """The scheme in lower case, or "" for a plain path."""
    found = _SCHEME.match(name)
    return found[1].lower() if found else ""


def check(name: str) -> str:
    """Refuse what is no plain path and no URI of an allowed scheme; returns the name."""
    if not name.strip():
        raise Unusable("an empty name")
    if "\0" in name:
        raise Unusable("a NUL character in the name")
    if len(name) > LONGEST:
        raise Unusable(f"longer than {LONGEST} characters")
    kind = scheme(name)
    if kind == "file":
        _check_file(name)
    elif kind in SCHEMES:
        _check_remote(name, kind)
    elif kind:
        known = ", ".join(["file", *sorted(SCHEMES)])
        raise Forbidden(f"'{kind}:' is not one of {known} (a local file of that name: ./{kind}:...)")
    return name


def redacted(name: str) -> str:
    """A name as messages and the pyramid may hold it: a URI of any scheme is without its user and its secrets."""
    kind, colon, rest = name.partition("://")
    if not colon or not scheme(name):
        return name
    base, question, query = rest.partition("?")
    user = _user(base)
    if user and (":" in user or not scheme(name).startswith("abfs")):  # abfs://CONTAINER@ACCOUNT is no user
        base = f"...{base[len(user) :]}"
    options = [_without_secret(option) for option in query.split("&")]
    return f"{kind}://{base}{question}{'&'.join(options)}"


def _user(base: str) -> str:
    """User and password of a URI's part before its query, "" where there are none. A password may hold a slash: then
    what stands before that looks like a host with a port that is no number.
    """
    authority = base.partition("/")[0]
    _, colon, port = authority.rpartition(":")
    whole = base if colon and not port.isdigit() and "@" not in authority else authority
    return whole.rpartition("@")[0]


def _without_secret(option: str) -> str:
    key, equals, _ = option.partition("=")
    return f"{key}=..." if equals and _SECRET.search(unquote(key)) else option


def _split(name: str) -> tuple[str, str, str]:
    """(authority, decoded path, query) of a URI."""
    try:
        parts = urlsplit(name)
    except ValueError as error:
        raise Forbidden(f"not a URI: {error}") from error
    if parts.fragment or name.endswith("#"):
        raise Forbidden("a '#' in a URI must be written %23")
    return parts.netloc, unquote(parts.path), parts.query


def _check_file(name: str) -> None:
    authority, path, query = _split(name)
    if name[5:7] != "//" or authority not in ("", "localhost") or not path.startswith("/"):
        raise Forbidden("a file URI must be file:///absolute/path")
    if "\0" in path or query:
        raise Unusable("a NUL character or a query in a file URI")


def _check_remote(name: str, kind: str) -> None:
    authority, path, query = _split(name)
    if not name[len(kind) :].startswith("://") or (not authority and kind not in ("hdfs", "viewfs")):
        raise Forbidden(f"a {kind} URI must be {kind}://place/path")
    if _user(name.partition("://")[2].partition("?")[0]) and "@" not in authority:
        raise Forbidden("credentials in a URI; they belong in the environment")
    if "@" in authority and (not kind.startswith("abfs") or ":" in authority.partition("@")[0]):
        raise Forbidden("credentials in a URI; they belong in the environment")
    if any(_without_secret(option) != option for option in query.split("&")):
        raise Forbidden("credentials in the options of a URI; they belong in the environment")
    if "\0" in path or _climbs(path):
        raise Forbidden("'..' or NUL in a URI")


def _climbs(path: str) -> bool:
    return ".." in path.split("/")


def local_path(uri: str) -> str | None:
    """The path of a local file, None for a remote URI."""
    kind = scheme(uri)
    if kind == "file":
        return os.fsdecode(unquote_to_bytes(urlsplit(uri).path))
    return None if kind else uri


def local_uri(path: str) -> str:
    """How a local file is written down: its absolute path, percent-encoded where Arrow could not store it."""
    path = os.path.abspath(path)
    try:
        path.encode()
    except UnicodeEncodeError:
        return "file://" + quote(os.fsencode(path))
    return path


def child(folder: str, relative: str) -> str:
    """The URI of an entry below a remote folder; a query (an endpoint, say) goes along."""
    base, question, query = folder.partition("?")
    return f"{base.rstrip('/')}/{quote(relative)}{question}{query}"


def inside(path: str, root: str) -> bool:
    """Whether a local path, all links followed, lies under `root` or is it."""
    real, real_root = os.path.realpath(path), os.path.realpath(root)
    return real == real_root or real.startswith(real_root.rstrip("/") + "/")


def resolve(name: str, base: str, *, allow_outside: bool = False) -> str:
    """The URI of a name found in a list that lies in the folder `base` (a path or a URI).

    A relative name counts from `base` and never climbs. Absolute paths, other storage and links out of `base`
    need `allow_outside`. Raises `Forbidden`.
    """
    check(name)
    local = local_path(name)
    if local is None:
        return _resolve_remote(name, base, allow_outside)
    if _climbs(local):
        raise Forbidden("'..' in the name")
    base_path = local_path(base)
    if base_path is None:
        if not os.path.isabs(local):
            return check(child(base, _storable(local)))
        if not allow_outside:
            raise Forbidden(f"a local path in a list of {base}")
        return local_uri(local)
    path = os.path.join(base_path, local)
    if not allow_outside and not inside(path, base_path):
        raise Forbidden(f"leads outside {base}")
    return local_uri(path)


def _storable(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise Unusable("not UTF-8") from error
    return name


def _resolve_remote(name: str, base: str, allow_outside: bool) -> str:
    authority, path, query = _split(_storable(name))
    base_authority, base_path, base_query = _split(base) if local_path(base) is None else ("", "", "")
    if query and query != base_query:
        # s3://bucket/key?endpoint_override=elsewhere would take the request to a place of the list's choice.
        raise Forbidden("a query in a listed URI")
    same = scheme(name) == scheme(base) and authority == base_authority
    if not allow_outside and not (same and path.startswith(base_path.rstrip("/") + "/")):
        raise Forbidden(f"leads outside {base}")
    # The same bucket is in the same store: the list's own endpoint, and no other.
    return f"{name.partition('?')[0]}?{base_query}" if same and base_query and not query else name


def remote(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a remote URI, one for each place and process, and the path inside it. Raises `Forbidden`, and
    `UserError` where this machine cannot open such storage at all.
    """
    parts = urlsplit(check(uri))
    system, top = _system(place(uri))
    return system, top.rstrip("/") + unquote(parts.path).rstrip("/")


def place(uri: str) -> str:
    """The storage that a remote URI lies in, as pyarrow names it. Raises `UserError` where the account is not set: that
    is no fault of the name, and every other name there would fare the same.
    """
    parts = urlsplit(uri)
    kind, authority = parts.scheme, parts.netloc
    if kind == "az":
        if not (account := os.environ.get(AZURE_ACCOUNT)):
            raise UserError(
                f"az:// needs the name of the storage account in {AZURE_ACCOUNT}",
                f"set it, on every machine of the run: export {AZURE_ACCOUNT}=NAME",
            )
        kind, authority = "abfs", f"{account}@{authority}"
    return f"{kind}://{authority}/" + (f"?{parts.query}" if parts.query else "")


def modified(info: fs.FileInfo) -> float:
    """The time of a remote object in whole seconds, 0 where the store gives none: a store's listing tells the
    milliseconds and its answer about one object does not.
    """
    return float((info.mtime_ns or 0) // 1_000_000_000)


@functools.lru_cache(maxsize=64)
def _system(place: str) -> tuple[fs.FileSystem, str]:
    try:
        return fs.FileSystem.from_uri(place)
    except pa.ArrowNotImplementedError as error:
        raise UserError(
            f"pyarrow was built without {scheme(place)}:// storage", "install another build of it"
        ) from error
