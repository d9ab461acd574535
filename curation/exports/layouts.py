"""The layouts there are, and who reads each.

jsonl           films and `metadata.jsonl` (`file_name`, `text`): datasets' VideoFolder, diffusers' scripts
parquet         the same with `metadata.parquet`
finetrainers    `prompts.txt` and `videos.txt`, a line a clip, and the films: finetrainers, CogVideoX' scripts
pairs           a text file beside each film: diffusion-pipe (`[[directory]]`), musubi-tuner (`caption_extension`)
fiftyone        `labels.csv` with `filepath`: FiftyOne's CSVDataset
webdataset      tar files of film, text and JSON by key, parted by bucket (`webdataset`)
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from curation.exports.base import Index, Layout, Line, Sample
from curation.exports.webdataset import WebDataset

_ROWS = 1000


@dataclass(frozen=True)
class Films:
    """A file a clip below `videos/`, images below `images/`; `beside`: its caption in a text file beside it."""

    index: Mapping[str, Index]
    beside: bool = False
    takes_images: bool = True
    clips_a_part: int = 200

    def files(self, part: str, samples: Sequence[Sample]) -> Iterator[tuple[str, bytes]]:
        for sample in samples:
            name = self.file_of(part, sample)
            yield name, sample.content
            if self.beside:
                yield f"{name.rpartition('.')[0]}.txt", f"{sample.caption}\n".encode()

    def file_of(self, part: str, sample: Sample) -> str:
        return f"{'images' if sample.is_image else 'videos'}/{sample.name}{sample.suffix}"

    def indexes(self) -> Mapping[str, Index]:
        return self.index


def json_lines(lines: Iterable[Line]) -> Iterator[bytes]:
    """A JSON object a line."""
    for line in lines:
        yield (json.dumps(line, allow_nan=False) + "\n").encode()


def prompts(lines: Iterable[Line]) -> Iterator[bytes]:
    """A caption a line."""
    return (f"{line['text']}\n".encode() for line in lines)


def names(lines: Iterable[Line]) -> Iterator[bytes]:
    """A file name a line, in the order of `prompts`."""
    return (f"{line['file_name']}\n".encode() for line in lines)


def labels(lines: Iterable[Line]) -> Iterator[bytes]:
    """CSV with a header; `filepath` is where FiftyOne looks for the film. Lists are left out: cells are flat."""
    header: list[str] | None = None
    for line in lines:
        row = {"filepath": line["file_name"], **line}
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        if header is None:
            header = [name for name, value in row.items() if not isinstance(value, list | dict)]
            writer.writerow(header)
        writer.writerow("" if row.get(name) is None else row[name] for name in header)
        yield text.getvalue().encode()


def parquet(lines: Iterable[Line]) -> Iterator[bytes]:
    """One Parquet file. Columns that are null in all rows of the first thousand are text."""
    sink, writer, held = io.BytesIO(), None, list[Line]()

    def flushed() -> Iterator[bytes]:
        nonlocal writer
        if writer is None:
            table = pa.Table.from_pylist(held)
            fields = (f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in table.schema)
            writer = pq.ParquetWriter(sink, pa.schema(list(fields)))
        writer.write_table(pa.Table.from_pylist(held, schema=writer.schema))
        held.clear()
        yield sink.getvalue()
        sink.seek(0)
        sink.truncate()

    for line in lines:
        held.append(line)
        if len(held) == _ROWS:
            yield from flushed()
    if held or writer is None:
        yield from flushed()
    assert writer is not None
    writer.close()
    yield sink.getvalue()


LAYOUTS: Mapping[str, Layout] = {
    "jsonl": Films({"metadata.jsonl": json_lines}),
    "parquet": Films({"metadata.parquet": parquet}),
    "finetrainers": Films({"prompts.txt": prompts, "videos.txt": names}, takes_images=False),
    "pairs": Films({}, beside=True),
    "fiftyone": Films({"labels.csv": labels}),
    "webdataset": WebDataset(),
}
