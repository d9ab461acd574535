"""What is left of something below a pyramid: every file is searched, and every version of every dataset that opens."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc

from curation.contract import BLOB_FIELD
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones


def traces(pyramid: Pyramid, needles: Collection[bytes]) -> list[str]:
    """Where any of `needles` is: names of files, whatever format they have, and datasets with the version. Not in
    tombstones, which hold ids.
    """
    found: dict[str, None] = {}
    top = Path(pyramid.uri)
    for path in top.rglob("*"):
        if path.is_file() and not _is_tombstone(path.relative_to(top)) and _any(_content(path), needles):
            found[path.relative_to(top).as_posix()] = None
    for dataset in sorted(top.glob("*.lance")):
        for place, content in _values(str(dataset)):
            if _any(content, needles):
                found[place] = None
    return list(found)


def _is_tombstone(path: Path) -> bool:
    return path.parts[0] == tombstones.FOLDER and path.suffix == ".json"


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # somebody is at work
        return b""


def _any(content: bytes, needles: Collection[bytes]) -> bool:
    return any(needle in content for needle in needles)


def _values(uri: str) -> Iterator[tuple[str, bytes]]:
    """All values of all rows, of every version; and deleted rows, in the files that a version names."""
    name = Path(uri).name
    for version in lance.dataset(uri).versions():
        dataset = lance.dataset(uri, int(version["version"]))
        place = f"{name} version {dataset.version}"
        yield place, repr(dataset.metadata).encode()
        plain = [field.name for field in dataset.schema if field.name != BLOB_FIELD]
        rows = dataset.to_table(columns=plain, with_row_address=True)
        yield place, _flat(rows)
        if BLOB_FIELD in dataset.schema.names and rows.num_rows:
            for file in dataset.take_blobs(BLOB_FIELD, addresses=rows["_rowaddr"].to_pylist()):
                assert file is not None
                with file:
                    yield place, file.readall()
    for path in sorted(Path(uri).glob("data/*.lance")):  # deleted rows, too
        yield f"{name} {path.name}", _physical(path)
    for path in sorted(Path(uri).glob("_indices/*/*.lance")):
        yield f"{name} {path.parent.name}/{path.name}", _physical(path)


def _physical(path: Path) -> bytes:
    from lance.file import LanceFileReader

    if not path.exists():
        return b""
    names = LanceFileReader(str(path)).metadata().schema.names
    content = b""
    for column in names:
        try:
            content += _flat(LanceFileReader(str(path), columns=[column]).read_all().to_table())
        except (OSError, ValueError, RuntimeError):
            continue  # blobs: their bytes lie in the file as they are, or in one beside it
    return content


def _flat(table: pa.Table) -> bytes:
    """All values that are texts or bytes, one after the other."""
    parts: list[bytes] = []
    for column in table.columns:
        values: Any = column
        while pa.types.is_list(values.type):
            values = pc.list_flatten(values)  # type: ignore[attr-defined]
        if pa.types.is_string(values.type) or pa.types.is_binary(values.type):
            parts += [one if isinstance(one, bytes) else one.encode() for one in values.to_pylist() if one is not None]
    return b"\n".join(parts)
