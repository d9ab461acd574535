"""`ziggurat.Client`: a pyramid's service from Python. Start here.

    Client -> `transport` (token, tries) -> the service's routes -> `pages` (rows) | `film` (bytes) | `decoded` (data)

Its methods give what functions of commands give of a pyramid that is here; `answers` makes commands' answers of them.
A route that is new gets a method here that names its path, and where a command asks for it, one in `answers`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self, overload
from urllib.parse import quote

from curation.pyramid.history.ledger import History
from curation.pyramid.queries.histogram import Histogram
from curation.pyramid.tiering.retention import TierRow
from curation.shards.manifest import Manifest
from curation.stats.report import Stats
from pipelines.client import conditions, decoded, pages
from pipelines.client.address import address as checked
from pipelines.client.decoded import Columns, Known, Manifests, Outcomes, Runs, Video
from pipelines.client.errors import ServiceError
from pipelines.client.film import Film
from pipelines.client.pages import Pages
from pipelines.client.transport import Asked, Retries, Transport
from pipelines.client.wire import ARROW, MOST_ROWS, OF_SEARCH, OF_STATS
from pipelines.commands.pyramid.query import Beside
from pipelines.commands.pyramid.runs import Seen
from pipelines.commands.pyramid.tiers import TierTable
from pipelines.commands.shards.manifests import Shown
from pipelines.commands.similar.search import Answer as Similar

Bounds = tuple[float | None, float | None] | str | None
"""Of a threshold: from, to; of the column `kind` a kind; None: the tier has no bound of its own."""
Where = Mapping[str, Any]
"""Conditions by column, where a column is called as an argument is, or as no argument can be."""
Names = Sequence[str]
_ALL: Where = MappingProxyType({})
_NOT_FOUND = 404


class Client:
    """A service. The token is that of the environment (`ZIGGURAT_TOKEN`) unless one is given; it never leaves by plain
    HTTP for another machine, unless `plain_http` says that it may. Methods take conditions by column as the command
    line does: `motion=(1, 8)`, `aesthetic=(5, None)`, `kind="image"`, `caption=None`.

    Every method raises `ServiceError` for what the service refuses, and `UnreachableError` where it does not answer.
    """

    def __init__(
        self,
        address: str,
        token: str | None = None,
        *,
        timeout_s: float = 60.0,
        retries: Retries = Retries(),  # noqa: B008
        plain_http: bool | None = None,
    ) -> None:
        self._at = Transport(checked(address, token, plain_http), timeout_s, retries)

    def __repr__(self) -> str:
        return f"Client({self._at.address.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of its connections."""
        self._at.close()

    def health(self) -> bool:
        """Whether the process lives; asked once."""
        return self._at.is_well("/health")

    def ready(self) -> bool:
        """Whether it can read its pyramid; asked once."""
        return self._at.is_well("/ready")

    def clips(
        self,
        where: Where = _ALL,
        *,
        tier: str | None = None,
        order: str | None = None,
        columns: Names = (),
        limit: int | None = None,
        version: str | int | None = None,
        caption_by: Names = (),
        **more: Any,
    ) -> Pages:
        """Clips of a query, read when they are iterated. `order`: a column, `-column` for the largest first."""
        asked = [*_conditions(where, more), *_some(tier=tier, order=order, version=version, caption_by=caption_by)]
        return Pages(self._at, "/api/clips", asked, selected=tuple(columns)).limit(limit)

    def beside(self, clips: Pages) -> Beside:
        """What is to be known beside the rows of `clips`."""
        return decoded.of(Beside, self._at.json("/api/clips/count", [*clips.asked, *_some(limit=clips.rows)]))

    def clip(self, clip_id: str) -> Known:
        """All that is known of one clip, by its whole id."""
        return decoded.known(self._at.json(_path("clips", clip_id)))

    @overload
    def film(self, clip_id: str) -> bytes: ...
    @overload
    def film(self, clip_id: str, to: str | PathLike[str]) -> Path: ...
    def film(self, clip_id: str, to: str | PathLike[str] | None = None) -> bytes | Path:
        """The clip's film, or of an image the picture: its bytes, or the file `to`, which a call that was stopped goes
        on with.
        """
        found = Film.at(self._at, _path("clips", clip_id, "video"))
        if to is None:
            return found.whole()
        found.save(place := Path(to))
        return place

    def poster(self, clip_id: str) -> bytes:
        """The middle sample frame, a JPEG."""
        return self._at.read(_path("clips", clip_id, "poster"))

    def frames(self, clip_id: str) -> Iterator[bytes]:
        """All sample frames in order of time, JPEGs."""
        for number in itertools.count():
            try:
                yield self._at.read(_path("clips", clip_id, "frames", str(number)))
            except ServiceError as error:
                if error.status == _NOT_FOUND and number:
                    return
                raise

    def search(
        self,
        text: str | None = None,
        where: Where = _ALL,
        *,
        like: str | None = None,
        image: bytes | None = None,
        space: str | None = None,
        tier: str | None = None,
        limit: int = 20,
        columns: Names = (),
        **more: Any,
    ) -> Similar:
        """The clips most like words, a clip, or a picture: one of the three is given."""
        asked = [*_conditions(where, more, *OF_SEARCH), *_some(text=text, like=like, space=space, tier=tier)]
        asked += _some(limit=limit, columns=columns)
        if image is None:
            return decoded.similar(pages.page(self._at.read("/api/search", asked, ARROW)))
        kind = "application/octet-stream"
        return decoded.similar(pages.page(self._at.post_to_read("/api/search/image", image, kind, asked, ARROW)))

    def histogram(
        self, column: str, where: Where = _ALL, *, bins: int = 60, tier: str | None = None, **more: Any
    ) -> Histogram:
        """How the values of a column lie among the clips that the conditions keep."""
        asked = [*_conditions(where, more), *_some(column=column, bins=bins, tier=tier)]
        return decoded.of(Histogram, self._at.json("/api/histogram", asked))

    def columns(self) -> Columns:
        """Which columns there are to ask by."""
        return decoded.of(Columns, self._at.json("/api/columns"))

    def tiers(self) -> TierTable:
        """The tiers in force: what each keeps, and what its filters drop."""
        return decoded.tiers(self._at.json("/api/tiers"))

    def tried(self, tiers: Mapping[str, Mapping[str, Bounds]]) -> tuple[TierRow, ...]:
        """What the tiers would keep with other thresholds, by tier and column. Nothing is written."""
        return decoded.tiers(self._at.ask("/api/tiers/preview", {"tiers": {**tiers}})).rows

    def move(self, tier: str, thresholds: Mapping[str, Bounds]) -> TierTable:
        """Move thresholds of a tier, for everybody. Needs the scope `write`."""
        return decoded.tiers(self._at.write("PUT", _path("tiers", tier), {**thresholds}))

    def videos(self, status: str | None = None, reason: str | None = None, columns: Names = ()) -> Pages:
        """Videos by what became of them, read when they are iterated."""
        return Pages(self._at, "/api/videos", _some(status=status, reason=reason), selected=tuple(columns))

    def video(self, video_id: str) -> Video:
        """One video and its clips, by its whole id."""
        return decoded.video(self._at.json(_path("videos", video_id)))

    def outcomes(self) -> Outcomes:
        """What the pyramid holds by now, in numbers."""
        return decoded.of(Outcomes, self._at.json("/api/outcomes"))

    def history(self, name: str) -> History:
        """What is known of an id, the beginning of one, a URI or a file name."""
        return decoded.history(self._at.json("/api/history", [("name", name)]))

    def manifests(self) -> list[Shown]:
        """All manifests, by name."""
        return list(decoded.of(Manifests, self._at.json("/api/manifests")).manifests)

    def manifest(self, name: str) -> Shown:
        """One manifest, compared with its hash, and with what was taken down since."""
        return decoded.of(Shown, self._at.json(_path("manifests", name)))

    def freeze(
        self,
        name: str,
        where: Where = _ALL,
        *,
        tier: str | None = None,
        preset: str = "stage1",
        seed: int = 42,
        without_captions: bool = False,
        caption_by: Names = (),
        **more: Any,
    ) -> Manifest:
        """Freeze clips as a manifest, by a published table of buckets. Needs the scope `write`."""
        wanted = {"name": name, "where": dict(_conditions(where, more)), "tier": tier, "preset": preset, "seed": seed}
        wanted |= {"without_captions": without_captions, **dict(_some(caption_by=caption_by))}
        return decoded.of(Manifest, self._at.write("POST", "/api/manifests", wanted))

    def runs(self) -> Iterator[Seen]:
        """The records of all runs, the newest first, also of those at work."""
        after: str | None = None
        while True:
            found = decoded.of(Runs, self._at.json("/api/runs", _some(limit=MOST_ROWS, after=after)))
            yield from map(decoded.seen, found.runs)
            if (after := found.next) is None:
                return

    def run(self, name: str) -> Seen:
        """One run, by its id or the beginning of one."""
        return decoded.seen(self._at.json(_path("runs", name)))

    def stats(
        self, where: Where = _ALL, *, tier: str | None = None, caption_by: Names = (), by: Names = (), **more: Any
    ) -> Stats:
        """What the clips of a query are like. `by`: columns of your own to count by, too."""
        asked = [*_conditions(where, more, *OF_STATS), *_some(tier=tier, caption_by=caption_by, by=by)]
        return decoded.of(Stats, self._at.json("/api/stats", asked))


def _conditions(where: Where, more: Where, *others: str) -> Asked:
    """Conditions as parameters, those by keyword after the others."""
    return [*conditions.given({**where, **more}, *others).items()]


def _some(**parameters: str | int | Names | None) -> list[tuple[str, str]]:
    """Those that are given; names with commas between them."""
    texts = ((name, ",".join(one) if isinstance(one, tuple | list) else one) for name, one in parameters.items())
    return [(name, str(one)) for name, one in texts if one is not None and one != ""]


def _path(*parts: str) -> str:
    return "/api/" + "/".join(quote(part, safe="") for part in parts)
