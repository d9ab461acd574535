"""Manifests and takedowns: a manifest never changes, so what was taken down since is told whenever it is opened.

`ziggurat forget` names the manifests that hold a clip of what it takes down; they keep its ids and its caption, their
pinned versions its bytes. `encode` and `train` ask `forgotten` and read none of it.
"""

from __future__ import annotations

import io
from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.errors import UserError
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.retry import retrying
from curation.shards import folder
from curation.shards.manifest import FOLDER, Frozen


def forgotten(frozen: Frozen, pyramid: Pyramid) -> tuple[int, ...]:
    """The samples, by number, that were taken down since they were frozen."""
    return _rows_of(frozen.samples, tombstones.read(pyramid.files))


def naming(pyramid: Pyramid, ids: Collection[str]) -> tuple[str, ...]:
    """The manifests that hold a clip with one of these ids, of clips or of videos. One that cannot be read is named as
    well: nobody can tell what it holds.
    """
    files, found = pyramid.files, []
    for name in folder.listed(files):
        try:
            manifest = folder.head(files, name)
            path = None if manifest is None else f"{FOLDER}/{manifest.file}"
            content = path and retrying(f"cannot read {files.uri}", lambda path=path: files.read(path))
            if not content or _rows_of(pq.read_table(io.BytesIO(content), columns=["clip_id", "video_id"]), ids):
                found.append(name)
        except (UserError, pa.ArrowException, OSError):
            found.append(name)
    return tuple(found)


def _rows_of(samples: pa.Table, ids: Collection[str]) -> tuple[int, ...]:
    wanted = pa.array(sorted(ids), pa.string())
    videos, clips = (pc.is_in(samples[name], wanted).to_numpy() for name in ("video_id", "clip_id"))  # type: ignore
    return tuple(np.flatnonzero(videos | clips).tolist())
