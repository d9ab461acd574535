"""A pyramid: one folder or URI with some Lance datasets and `pyramid.json`. Everything else here starts from it.

    videos           the ledger, one row per content, written last
    clips            scores, the caption in force, lineage: small and hot
    samples          JPEG sample frames of every measured clip: append-only
    media            clip bytes as blobs: append-only; `upkeep` merges small fragments, and copies no large one
    captions         earlier captions and those of other makers: append-only
    embeddings/NAME  vectors of clips, a dataset for each space: append-only
    unembedded       why a clip has no vector, where a pyramid has spaces of its own

Frames, bytes and vectors live apart from scores because Lance rewrites whole rows when it updates or compacts.
`samples` lets OCR and CLIP be recomputed, and a person look at a dropped clip, without decoding a source again.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.contract import BLOB_FIELD, FORMAT_VERSION, SCORES, score_fields
from curation.errors import UserError
from curation.pyramid.history import recipes
from curation.pyramid.queries.query import Query, default_columns
from curation.pyramid.storage import about as about_file
from curation.pyramid.storage import address, datasets
from curation.pyramid.storage.about import About, looked_up, ready
from curation.pyramid.storage.datasets import BYTES, of_space, schema
from curation.pyramid.storage.files import Files
from curation.pyramid.storage.lookup import chunks, firsts, select
from curation.pyramid.storage.making import made
from curation.pyramid.tiering.tiers import Tiers
from curation.retry import explained, retrying
from curation.spaces import CLIP_SPACE, SPACES, Space

_LATER_S = 1.0
_TIMES = 10
"""When, in an object store, a change of `pyramid.json` is looked at again, and how often it is made at most."""

if TYPE_CHECKING:
    import lance


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of each dataset, by name, such that every done video of `videos` has all it needs in the others."""

    versions: Mapping[str, int]

    def __getitem__(self, name: str) -> int:
        return self.versions[name]


class Pyramid:
    """A handle: cheap to make, to pickle and to send to an actor. Each read opens the latest version unless
    told.
    """

    def __init__(self, uri: str, about: About, storage_options: Mapping[str, str] | None = None) -> None:
        self.uri = uri
        self.about = about
        self.storage_options = about_file.options(uri, storage_options)
        self._session: Any = None

    @classmethod
    def open(
        cls, uri: str | os.PathLike[str], storage_options: Mapping[str, str] | None = None, unready: bool = False
    ) -> Pyramid:
        """The pyramid at `uri`; UserError when there is none, or one of another format. `unready`: take one of an older
        format too, or one that a command is still making, as only that command does.
        """
        place, storage_options = address.located(uri, storage_options)
        found = looked_up(place, storage_options)
        if found is None:
            if not about_file.is_remote(place) and not Path(place).exists():
                raise UserError(f"{place} does not exist", "check the path, or make a pyramid with `ziggurat curate`")
            raise UserError(f"{place} is not a pyramid", "give the folder that holds pyramid.json")
        return cls(place, found if unready else ready(place, found), storage_options)

    @classmethod
    def create(
        cls,
        uri: str | os.PathLike[str],
        tiers: Tiers,
        recipe_name: str,
        storage_options: Mapping[str, str] | None = None,
        recipe_text: str | None = None,
        scores: Sequence[str] = (),
        under_way: str = "",
        spaces: Sequence[Space] = (),
    ) -> Pyramid:
        """A new, empty pyramid, which keeps `recipe_text` where one is given; UserError when there is one already or
        the place cannot be written. `scores`, `under_way`, `spaces`: see `About`.
        """
        place, storage_options = address.located(uri, storage_options)
        if looked_up(place, storage_options) is not None:
            raise UserError(f"{place} is a pyramid already", "open it, or choose another path")
        about = About(tiers, recipe_name, scores=tuple(scores), under_way=under_way, spaces=tuple(spaces))
        return cls(place, made(place, about, storage_options, recipe_text), storage_options)

    @classmethod
    def find(
        cls, uri: str | os.PathLike[str], storage_options: Mapping[str, str] | None = None, unready: bool = False
    ) -> Pyramid | None:
        """The pyramid at `uri`, None where there is none yet. `unready`: see `open`."""
        place, storage_options = address.located(uri, storage_options)
        found = looked_up(place, storage_options)
        return None if found is None else cls(place, found if unready else ready(place, found), storage_options)

    @classmethod
    def open_or_create(
        cls,
        uri: str | os.PathLike[str],
        tiers: Tiers,
        recipe_name: str,
        storage_options: Mapping[str, str] | None = None,
        recipe_text: str | None = None,
        scores: Sequence[str] = (),
        spaces: Sequence[Space] = (),
    ) -> Pyramid:
        """Open; where there is none yet, create. Safe when two jobs start together, and after a creation cut
        short.
        """
        place, storage_options = address.located(uri, storage_options)
        if looked_up(place, storage_options) is None:
            about = About(tiers, recipe_name, scores=tuple(scores), spaces=tuple(spaces))
            return cls(place, made(place, about, storage_options, recipe_text), storage_options)
        return cls.open(place, storage_options)

    @property
    def tiers(self) -> Tiers:
        return self.about.tiers

    @property
    def scores(self) -> tuple[str, ...]:
        """The score columns, in order of cost; the pyramid's own come last."""
        return (*SCORES, *self.about.scores)

    @property
    def own_score_columns(self) -> tuple[str, ...]:
        """The columns of the pyramid's own scores: values, makers and reasons."""
        return tuple(field.name for score in self.about.scores for field in score_fields(score))

    @property
    def spaces(self) -> dict[str, Space]:
        """The spaces of vectors by their names: those of every pyramid, and its own."""
        return {space.name: space for space in (*SPACES, *self.about.spaces)}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its datasets, in the order in which a commit writes them."""
        return datasets.names(self.about.spaces)

    @property
    def beside(self) -> tuple[str, ...]:
        """Those of them that hold what goes with a clip and is not in its row."""
        return datasets.beside(self.about.spaces)

    def schema(self, name: str) -> pa.Schema:
        """The columns of a dataset by the contract, with those of the pyramid's own scores."""
        return schema(name, self.about.scores, self.about.spaces)

    @property
    def recipe_name(self) -> str:
        return self.about.recipe

    @property
    def files(self) -> Files:
        """The small files beside the datasets."""
        return Files(self.uri, self.storage_options)

    def recipe_text(self) -> str | None:
        """The whole text of the recipe that the pyramid keeps; None in one that was made without."""
        version = self.about.recipe_version
        if version is None:
            return None
        return retrying(f"cannot read {self.uri}", lambda: recipes.read(self.files, version, self.about.recipe_sha256))

    def refreshed(self) -> Pyramid:
        """The pyramid as `pyramid.json` describes it now."""
        about = retrying(f"cannot read {self.uri}", lambda: about_file.read(self.uri, self.storage_options))
        return self._as(about or self.about)

    def with_tiers(self, tiers: Tiers) -> Pyramid:
        """Write these tiers to `pyramid.json`, whatever was there; the pyramid that has them. See `moving`."""
        return self.moving(lambda _: tiers)

    def moving(self, move: Callable[[Tiers], Tiers]) -> Pyramid:
        """Move thresholds of the tiers in force by then, write them to `pyramid.json`, and return the pyramid that has
        them. `move` may be called several times: others may move theirs at the same time.

        Scores stay as they are. The column `clips.tier` is of the old tiers until `retier` has run, and until then
        `pyramid.json` says so: any process can finish what a killed one began.
        """
        return self._changed(lambda about: about.moved_to(move(about.tiers)), lasting=True)

    def with_recipe(
        self,
        name: str,
        text: str,
        tiers: Tiers,
        keep_tiers: bool = False,
        scores: Sequence[str] = (),
        spaces: Sequence[Space] = (),
    ) -> Pyramid:
        """Keep another recipe, as a new version, and put its tiers in force; `keep_tiers`: leave those that are.
        `scores`, `spaces`: those of its filters that the pyramid has from now on; what it had, it keeps.
        """
        version = retrying(f"cannot write to {self.uri}", lambda: recipes.keep(self.files, text))

        def change(about: About) -> About:
            if about.recipe_version == version:
                return about  # with what others have moved since
            now = about.tiers if keep_tiers else tiers
            return replace(
                about,
                tiers=now,
                recipe=name,
                recipe_version=version,
                recipe_tiers=tiers,
                retiering=about.retiering or now != about.tiers,
                scores=tuple(dict.fromkeys((*scores, *about.scores))),  # in the order in which this recipe makes them
                recipe_sha256=recipes.digest(text),
            ).with_spaces(spaces)

        return self._changed(change, lasting=True)

    def having(self, scores: Sequence[str] = (), spaces: Sequence[Space] = ()) -> Pyramid:
        """Say in `pyramid.json` that it has these, whose columns and datasets are there (`columns.add_scores`, ...)."""
        if {*scores} <= {*self.scores} and {space.name for space in spaces} <= {*self.spaces}:
            return self
        return self._changed(lambda about: about.with_scores(scores).with_spaces(spaces), lasting=True)

    def retiered(self) -> Pyramid:
        """Say in `pyramid.json` that the column `clips.tier` is of the tiers that this pyramid has."""
        return self._changed(lambda about: replace(about, retiering=about.retiering and about.tiers != self.tiers))

    def made_by(self, command: str) -> Pyramid:
        """Say in `pyramid.json` that `command` is making this a pyramid of this format, and has not ended: every other
        one refuses it, and so does a program that reads an older format only. "": it has ended.
        """
        return self._changed(lambda about: replace(about, format=FORMAT_VERSION, under_way=command), lasting=True)

    def _changed(self, change: Callable[[About], About], lasting: bool = False) -> Pyramid:
        """`change` applied to `pyramid.json`; to what it has made of a description it changes nothing.

        `lasting`: nobody would make it again. An object store has no lock, so there another process may write over it
        what it read before: it is looked at once more a moment later, and made again where it is gone.
        """
        with about_file.changing(self.uri):
            about = change(self.refreshed().about)
            for _ in range(_TIMES):
                retrying(f"cannot write to {self.uri}", lambda about=about: self._write(about))
                if not (lasting and about_file.is_remote(self.uri)):
                    return self._as(about)
                time.sleep(_LATER_S)
                there = self.refreshed().about
                about = change(there)
                if about.to_json() == there.to_json():
                    return self._as(there)
        raise UserError(f"others keep changing {self.uri}", "wait until they have ended, and run the command again")

    def _write(self, about: About) -> None:
        about_file.write(self.uri, about, self.storage_options)

    def _as(self, about: About) -> Pyramid:
        other = Pyramid(self.uri, about, self.storage_options)
        other._session = self._session
        return other

    def dataset_uri(self, name: str) -> str:
        assert name in self.names, name
        return f"{self.uri}/{name}.lance"

    def dataset(self, name: str, version: int | str | None = None) -> lance.LanceDataset:
        """One of the datasets, at its latest version or at `version` (a number or a tag)."""
        import lance

        if self._session is None:
            self._session = lance.Session()  # pyright: ignore[reportPrivateImportUsage]
        uri = self.dataset_uri(name)
        try:
            return lance.dataset(uri, version, storage_options=self.storage_options, session=self._session)
        except (ValueError, OSError) as error:
            if explained(error) is not None:
                raise  # the store does not answer, which says nothing of what it holds
            if version is not None:
                raise UserError(
                    f"{uri} has no version {version}",
                    "it was cleaned up or never was: pin versions that you need",
                ) from error
            if isinstance(error, ValueError):  # Lance's way to say that a dataset is not there
                raise UserError(f"{uri} is missing or damaged ({str(error)[:120]})", "restore it") from error
            raise

    def scattered(self) -> int:
        """How many files hold samples and media: each measured video and each cut segment adds one until `upkeep`."""
        return sum(len(self.dataset(name).get_fragments()) for name in BYTES)

    def snapshot(self) -> Snapshot:
        """The latest versions, read in the reverse order of a commit: what a done video needs is then in the
        rest.
        """
        return Snapshot({name: self.dataset(name).version for name in reversed(self.names)})

    def pin(self, tag: str) -> Snapshot:
        """Tag the versions of a snapshot in all datasets, so that `upkeep` keeps them. A tag is set only once."""
        snapshot = self.snapshot()
        for name in self.names:
            self.dataset(name).tags.create(tag, snapshot[name])
        return snapshot

    def unpin(self, tag: str) -> None:
        """Take a tag away; a dataset that is younger than the tag has none."""
        for name in self.names:
            tags = self.dataset(name).tags
            if name not in self.beside or tag in tags.list():
                tags.delete(tag)

    def query(self) -> Query:
        return Query(self, selected=default_columns(self))

    def tier(self, name: str) -> Query:
        return self.query().tier(name)

    def where(self, /, **conditions: Any) -> Query:
        return self.query().where(**conditions)

    def media(self, clip_ids: Iterable[str], version: int | None = None) -> Iterator[tuple[str, bytes, str]]:
        """(clip_id, bytes, sha256) of the clips that have been cut; few at a time, to bound memory."""
        dataset = self.dataset("media", version)
        for ids in chunks(clip_ids, 2000):
            rows = firsts(dataset, ids, "sha256")
            for start in range(0, len(rows), 16):
                some = rows[start : start + 16]
                files = dataset.take_blobs(BLOB_FIELD, addresses=[row["_rowaddr"] for row in some])
                for row, file in zip(some, files, strict=True):
                    assert file is not None, row
                    with file:
                        yield row["clip_id"], file.readall(), row["sha256"]

    def samples(self, clip_ids: Iterable[str]) -> Iterator[tuple[str, list[bytes]]]:
        """(clip_id, JPEG frames) of the clips that were measured; a few at a time."""
        dataset = self.dataset("samples")
        for ids in chunks(clip_ids, 64):
            for row in firsts(dataset, ids, "frames"):
                yield row["clip_id"], row["frames"]

    def vectors(self, clip_ids: Iterable[str], space: str = CLIP_SPACE.name) -> Iterator[tuple[str, str, list[float]]]:
        """(clip_id, maker, vector) of clips in a space; one of each maker, for only vectors of one can be compared: the
        first, or where they are made of captions the last.
        """
        dataset, turn = self.dataset(of_space(space)), 1 if self.spaces[space].of_caption else -1
        for ids in chunks(clip_ids, 1000):
            rows = select(dataset, "clip_id", ids, ["clip_id", "by", "vector"], with_row_address=True).to_pylist()
            first = {(row["clip_id"], row["by"]): row for row in sorted(rows, key=lambda row: turn * row["_rowaddr"])}
            yield from ((*key, row["vector"]) for key, row in first.items())

    def __getstate__(self) -> tuple[str, About, dict[str, str] | None]:
        return self.uri, self.about, self.storage_options

    def __setstate__(self, state: tuple[str, About, dict[str, str] | None]) -> None:
        self.uri, self.about, self.storage_options = state
        self._session = None
