"""WebDataset: tar files whose members of one key are a clip: `KEY.mp4`, `KEY.txt` (caption), `KEY.json` (row).

The same clips give the same bytes: members have no owner and no time.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from curation.exports.base import Index, Line, Sample


@dataclass(frozen=True)
class WebDataset:
    """A tar file a part, named by its bucket and number; `sizes.json` says how many clips each has, as loaders ask."""

    takes_images: bool = True
    clips_a_part: int = 500

    def files(self, part: str, samples: Sequence[Sample]) -> Iterator[tuple[str, bytes]]:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for sample in samples:
                row = {name: value for name, value in sample.row.items() if value is not None}
                _add(tar, sample.name + sample.suffix, sample.content)
                _add(tar, f"{sample.name}.txt", sample.caption.encode())
                _add(tar, f"{sample.name}.json", json.dumps(row, allow_nan=False).encode())
        yield f"{part}.tar", out.getvalue()

    def file_of(self, part: str, sample: Sample) -> str:
        return f"{part}.tar"

    def indexes(self) -> Mapping[str, Index]:
        return {"sizes.json": sizes}


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o644
    tar.addfile(member, io.BytesIO(content))


def sizes(lines: Iterable[Line]) -> Iterator[bytes]:
    """How many clips each tar file has."""
    counted: dict[str, int] = {}
    for line in lines:
        counted[line["file_name"]] = counted.get(line["file_name"], 0) + 1
    yield (json.dumps(counted, indent=1) + "\n").encode()
