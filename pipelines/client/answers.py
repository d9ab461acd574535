"""Commands' answers by a service, of the same types as those of a pyramid that is here (`commands.answers`).

What a service has no route for is refused in one line, before anything is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from curation.errors import UserError
from curation.pyramid.history.ledger import History
from curation.pyramid.queries import export
from curation.pyramid.queries.export import Rows
from curation.shards.manifest import Manifest
from pipelines.client import conditions
from pipelines.client.client import Bounds, Client
from pipelines.client.wire import OF_SEARCH, OF_STATS
from pipelines.commands.pyramid import conditions as of_columns
from pipelines.commands.pyramid import query as querying
from pipelines.commands.pyramid import stats as counting
from pipelines.commands.pyramid import tiers as moving
from pipelines.commands.pyramid import videos as listing
from pipelines.commands.pyramid.runs import Seen
from pipelines.commands.shards import freeze as freezing
from pipelines.commands.shards.manifests import Shown
from pipelines.commands.similar import search as searching


class There:
    """`commands.answers.Answers` of a service. Requests come as the command line makes them; their `pyramid` is the
    service's address.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def query(self, request: querying.Request) -> querying.Answer:
        if request.timeout is not None:
            raise lacking("--timeout")
        querying.check(request)
        _check_output(request.output)
        found = self._client.clips(
            conditions.typed(request.wanted),
            tier=request.tier,
            order=request.order,
            columns=querying.selected(request.columns),
            limit=request.limit,
            version=request.version,
            caption_by=querying.selected(request.caption_by),
        )
        beside = self._client.beside(found)
        count = found.count() if request.count else None
        saved = None if request.output is None else _saved(Rows.of(found), request.output)
        return querying.Answer(found, found.selected, beside, count, saved, request.caption_by is not None)

    def videos(self, request: querying.Request, status: str | None, reason: str | None) -> listing.VideosAnswer:
        listing.check(request)
        return listing.answer(request, self._client.videos(status, reason))

    def why(self, name: str) -> History:
        return self._client.history(name)

    def runs(self, name: str | None) -> list[Seen]:
        return list(self._client.runs())[::-1] if name is None else [self._client.run(name)]

    def tiers(self, request: moving.Request) -> moving.TierTable:
        scores = self._client.columns().scores if request.wanted else ()
        wanted = of_columns.conditions(request.wanted, scores=scores)
        moving.check(request.move, wanted, request.unset)
        if not request.move:
            return self._client.tiers()
        return self._client.move(request.move, _thresholds(wanted, request.unset))

    def stats(self, request: counting.Request) -> counting.Answer:
        where = conditions.typed(request.wanted, *OF_STATS)
        makers, by = querying.selected(request.caption_by), querying.selected(request.by)
        return counting.answer(
            request.output, lambda: self._client.stats(where, tier=request.tier, caption_by=makers, by=by)
        )

    def search(self, request: searching.Request) -> searching.Answer:
        searching.check(request)
        _check_output(request.output)
        image = searching.content_of(request.image) if isinstance(request.image, str) else request.image
        found = self._client.search(
            request.text,
            conditions.typed(request.wanted, *OF_SEARCH),
            like=request.like,
            image=image,
            space=request.space,
            tier=request.tier,
            limit=request.limit,
            columns=querying.selected(request.columns),
        )
        if request.output is None:
            return found
        return replace(found, saved=_saved(Rows(found.rows.schema, found.rows.to_batches()), request.output))

    def freeze(self, request: freezing.Request) -> Manifest:
        return self._client.freeze(
            request.name,
            conditions.typed(request.wanted),
            tier=request.tier,
            preset=request.preset,
            seed=request.seed,
            without_captions=request.without_captions,
            caption_by=querying.selected(request.caption_by),
        )

    def manifests(self, name: str | None) -> list[Shown]:
        return self._client.manifests() if name is None else [self._client.manifest(name)]

    def unpin(self, name: str) -> Shown:
        raise lacking("--unpin")


def _check_output(output: str | None) -> None:
    if output is not None and not export.is_table(output):
        raise lacking("a folder of mp4 files")


def _saved(rows: Rows, output: str) -> querying.Saved:
    return querying.Saved(output, export.save(rows, output))


def _thresholds(wanted: Mapping[str, Any], unset: Sequence[str]) -> dict[str, Bounds]:
    """As the route takes them: a range, a kind, or null for one that is taken away."""
    gone = dict.fromkeys(moving.as_columns(wanted, unset))
    return {**{column: _threshold(column, given) for column, given in wanted.items()}, **gone}


def _threshold(column: str, given: Any) -> Bounds:
    if given is None:
        raise UserError(f"a tier bounds no {column} by null", "write low..high, or --unset " + column)
    return given if isinstance(given, str | tuple) else (given, given)


def lacking(what: str) -> UserError:
    """That a service cannot be asked for it."""
    return UserError(f"a service has no answer for {what}", "leave it out, or give the pyramid itself without --server")
