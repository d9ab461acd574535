"""Pyramids with vectors, and what an exact search over all of them gives: the oracle of the tests beside this."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curation.contract import embeddings_schema
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.storage.columns import add_spaces
from curation.pyramid.store import Pyramid
from curation.spaces import Space
from tests.curation.pyramid.build import clips, videos

SMALL = Space("small", 24, "numbers of a test")
WORDS = Space("words", 24, "captions of a test", of_caption=True)
BY = "maker-1"
CLIPS_A_VIDEO = 50


def with_spaces(pyramid: Pyramid, *spaces: Space) -> Pyramid:
    add_spaces(pyramid, spaces)
    return pyramid.having(spaces=spaces)


def clustered(many: int, width: int = SMALL.width, seed: int = 0, around: int = 40) -> np.ndarray:
    """Vectors (many, width) float16 around some centres, as those of videos are."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(around, width))
    return (centres[rng.integers(0, around, many)] + 0.6 * rng.normal(size=(many, width))).astype(np.float16)


def table(
    names: Sequence[str], vectors: np.ndarray, space: Space = SMALL, by: str = BY, of: Sequence[str] = ()
) -> pa.Table:
    """Rows of a space."""
    columns: list[Any] = [pa.array(names), pa.array([space.name] * len(names)), pa.array([by] * len(names))]
    columns += [pa.array(of)] if space.of_caption else []
    columns.append(pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float16).ravel()), space.width))
    return pa.Table.from_arrays(columns, schema=embeddings_schema(space))


def named(start: int, many: int) -> list[str]:
    """Ids of clips; those of one video begin alike, as they do in a pyramid."""
    return [f"{index // CLIPS_A_VIDEO:012x}{index:020x}" for index in range(start, start + many)]


def filled(pyramid: Pyramid, vectors: np.ndarray, start: int = 0, space: Space = SMALL) -> list[str]:
    """Clips with a vector each, in one commit; their ids. `motion` is the clip's number modulo 100."""
    names = named(start, len(vectors))
    owners = [name[:12] for name in names]
    rows = [
        {"clip_id": name, "video_id": owner, "motion": float((start + index) % 100), "sharpness": 20.0, "frames": 75}
        for index, (name, owner) in enumerate(zip(names, owners, strict=True))
    ]
    done = [{"video_id": one, "status": "done", "clips": owners.count(one)} for one in dict.fromkeys(owners)]
    batch = Batch(clips=clips(*rows), videos=videos(*done), embeddings=[table(names, vectors, space)])
    Committer(pyramid).commit(batch)
    return names


def exact(
    names: list[str], vectors: np.ndarray, vector: np.ndarray, limit: int, among: Collection[str] | None = None
) -> list[str]:
    """The `limit` names most like `vector`, by comparing all of them (or those `among`)."""
    rows, sought = vectors.astype(np.float64), vector.astype(np.float64)
    cosines = rows @ sought / np.linalg.norm(rows, axis=1) / np.linalg.norm(sought)
    order = [index for index in np.argsort(-cosines, kind="stable") if among is None or names[index] in among]
    return [names[index] for index in order[:limit]]


def recall(found: Collection[str], wanted: Collection[str]) -> float:
    return len(set(found) & set(wanted)) / len(wanted)
