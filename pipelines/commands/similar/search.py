"""`ziggurat search`: words, a clip or a picture in; the clips most like it out, with how much.

    what is searched for -> its vector in a space -> the nearest clips that the ranges keep (`similar.nearest`) -> rows

A picture comes from anybody, and is decoded in the sandbox. What a person would take for all there is and is not, is
told: clips without a vector, vectors that the index does not cover yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from curation.embed.base import Embedder, Made, OfPictures, OfTexts
from curation.errors import UserError
from curation.media.sandbox.sandbox import Sandbox
from curation.pyramid.queries import export
from curation.pyramid.queries.export import Rows
from curation.pyramid.queries.query import Query
from curation.pyramid.similar import nearest, vectors
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retier import opened
from curation.spaces import Space
from pipelines.commands.pyramid.conditions import apart
from pipelines.commands.pyramid.query import Saved, absent, asked, asked_scores, check_output, selected
from pipelines.commands.similar import choosing
from pipelines.config.recipe import limits_of
from pipelines.embedding.blocks import searched
from pipelines.embedding.trial import answered

SIMILARITY = "similarity"
_SIDE = 640
"""Pixels of the longer side of a picture, as sample frames have them."""
MOST_BYTES = 100 << 20
"""Of a picture that is searched for."""
_ANOTHER = "mend it, or name another --space"


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `ziggurat search`; `wanted` are the conditions as they were typed. One of `text`, `like` and
    `image`, a file or the bytes of one, is given.
    """

    pyramid: str
    text: str | None = None
    like: str | None = None
    image: str | bytes | None = None
    space: str | None = None
    wanted: Sequence[str] = ()
    tier: str | None = None
    limit: int = 20
    columns: str | None = None
    output: str | None = None
    names: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a search gives: `rows`, the most alike first, with the column `similarity`, or what was `saved` of them; in
    which `space` by which maker; whether all vectors were compared (`exact`); and `notes` on it.
    """

    space: Space
    by: str
    rows: pa.Table
    exact: bool
    notes: tuple[str, ...]
    saved: Saved | None = None


@dataclass(frozen=True, slots=True)
class _Sought:
    """What is searched for, as a vector of one maker in one space; clips that do not come."""

    space: Space
    by: str
    vector: np.ndarray
    without: tuple[str, ...] = ()


def arguments(text: str | None, rest: Sequence[str]) -> tuple[list[str], str | None]:
    """Conditions and the words that are searched for, as the command line mixes them."""
    conditions, words = apart([*([text] if text is not None else []), *rest])
    if len(words) > 1:
        raise UserError(f"{words[1]!r} is one word too many", 'put what you search for in quotes: "a red fox"')
    return conditions, words[0] if words else None


def search(request: Request) -> Answer:
    """Search, and write where an output is named."""
    check(request)
    pyramid = opened(request.pyramid)
    query = pyramid.query().where(**asked(pyramid, request.wanted))
    query = query.tier(request.tier) if request.tier else query
    columns = [name for name in selected(request.columns) if name != SIMILARITY]
    query = query.columns(*columns) if columns else query.whole()
    sought, notes = _sought(pyramid, request)
    found = nearest.nearest(query, sought.space, sought.by, sought.vector, request.limit, sought.without)
    notes += _notes(query, sought, found)
    rows = _rows(query, found)
    saved = None if request.output is None else _save(query, rows, found, request.output, request.names)
    return Answer(sought.space, sought.by, rows, found.exact, tuple(notes), saved)


def check(request: Request) -> None:
    """Before anything is read: one thing is searched for, and the output can be written."""
    if sum(one is not None for one in (request.text, request.like, request.image)) != 1:
        raise UserError("a search needs one thing to search for", "write words, --like CLIP, or --image FILE")
    if request.text is not None and not request.text.strip():
        raise UserError("there are no words to search for", 'write some: "a red fox"')
    if request.output is not None:
        check_output(request.output, request.names)
    elif request.names is not None:
        raise UserError("--names is for a folder of mp4 files", "name one with --output")


def _sought(pyramid: Pyramid, request: Request) -> tuple[_Sought, list[str]]:
    """What is searched for, and what is to be said of it."""
    recipe = choosing.recipe_of(pyramid)
    if request.like is not None:
        chosen = choosing.of_clip(pyramid, recipe, request.like, request.space)
        return _Sought(chosen.space, chosen.by, chosen.vector, (chosen.clip_id,)), list(chosen.notes)
    way = choosing.WORDS if request.text is not None else choosing.PICTURES
    picture = None if request.image is None else _picture(pyramid, request.image)
    block = searched(recipe, choosing.space(pyramid, recipe, request.space, way))
    embedder = block.made()
    if picture is not None:
        made = _of_picture(embedder, block.space, picture)
    else:
        made = _of_text(embedder, block.space, request.text or "")
    if isinstance(made, str):
        raise UserError(
            f"what is searched for has no vector in {block.space.name} ({made})", "search for something else"
        )
    return _Sought(block.space, block.by, made), []


def _of_text(embedder: Embedder, space: Space, text: str) -> Made:
    if not isinstance(embedder, OfTexts):
        raise UserError(
            f"the space {space.name} has no words ({space.what})",
            "search it with --like or --image, or another --space",
        )
    (made,) = answered(space, lambda: embedder.texts([text]), _ANOTHER)
    return made


def _of_picture(embedder: Embedder, space: Space, picture: np.ndarray) -> Made:
    if not isinstance(embedder, OfPictures):
        raise UserError(
            f"the space {space.name} sees no pictures ({space.what})",
            "search it with words or --like, or another --space",
        )
    (made,) = answered(space, lambda: embedder.pictures([[picture]]), _ANOTHER)
    return made


def _picture(pyramid: Pyramid, image: str | bytes) -> np.ndarray:
    """The picture in a file, (height, width, 3) uint8, BGR, as large as sample frames. UserError where it is none."""
    name = image if isinstance(image, str) else "what was sent"
    content = content_of(image) if isinstance(image, str) else image
    with Sandbox(limits_of(pyramid)) as sandbox:
        (picture,) = sandbox.pictures([content], Path(name).name)
    if picture is None:
        raise UserError(f"{name} is no picture that can be read", "give a JPEG, PNG or WebP file")
    height, width = picture.shape[:2]
    if (longer := max(height, width)) > _SIDE:
        size = (max(1, round(width * _SIDE / longer)), max(1, round(height * _SIDE / longer)))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return picture


def content_of(name: str) -> bytes:
    """The bytes of a picture's file; UserError where it cannot be read or is too large."""
    path = Path(name)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise UserError(f"{name} is larger than {MOST_BYTES >> 20} MiB", "give a smaller picture")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {name} ({error.strerror})", "give the file of a picture") from error


def _notes(query: Query, sought: _Sought, found: nearest.Found) -> list[str]:
    """What is lacking. UserError where no vector can be compared with what is searched for."""
    space, pyramid = sought.space, query.pyramid
    makers = vectors.makers(pyramid, space)
    if not makers:
        raise UserError(f"the space {space.name} is empty", choosing.filling(pyramid, space.name))
    if not makers[sought.by]:
        others = ", ".join(sorted(makers))
        raise UserError(
            f"the vectors of {space.name} are by {others}, and cannot be compared with what {sought.by} makes",
            choosing.filling(pyramid, space.name),
        )
    notes = [told for score in asked_scores(query) if (told := absent(query, score)) is not None]
    clips = pyramid.dataset("clips").count_rows()
    if (lacking := clips - makers[sought.by]) > 0:
        notes.append(f"{lacking} of {clips} clips have no vector in {space.name} by {sought.by}, and are not found")
    if found.behind:
        behind = f"the index of {space.name} is behind: {found.behind} vectors were compared one by one"
        notes.append(f"{behind}; see `ziggurat upkeep`")
    return notes


def _rows(query: Query, found: nearest.Found) -> pa.Table:
    """The clips that were found with the query's columns and their similarity, the most alike first."""
    names = list(found.similar)
    chosen = Query(query.pyramid, own=query.own, version=query.version).where(clip_id=names or "")
    rows = replace(chosen, selected=tuple(dict.fromkeys(("clip_id", *query.selected)))).to_table()
    place = {name: index for index, name in enumerate(names)}
    rows = rows.take(np.argsort([place[name] for name in rows["clip_id"].to_pylist()], kind="stable"))
    alike = [found.similar[name] for name in rows["clip_id"].to_pylist()]
    return rows.select(list(query.selected)).append_column(SIMILARITY, pa.array(alike, pa.float32()))


def _save(query: Query, rows: pa.Table, found: nearest.Found, output: str, names: str | None) -> Saved:
    if export.is_table(output):
        return Saved(output, export.save(Rows(rows.schema, rows.to_batches()), output))
    chosen = Query(query.pyramid, selected=query.selected, own=query.own, version=query.version)
    chosen = chosen.where(clip_id=list(found.similar) or "")
    more = {name: {SIMILARITY: alike} for name, alike in found.similar.items()}
    done = export.videos(chosen, output, names or "{clip_id}", more)
    return Saved(output, done.files, done.bytes, done.missing)
