"""Who answers commands that ask a pyramid: the pyramid itself, or a service that has it (`--server URL`).

`at` decides it, once for all commands: they call one of these methods and show what it gives. A command that a service
is to answer, too, gets a method here, one in `Here` and one in `pipelines.client.answers`, and the class
`server.Answered` where the command line reads it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from curation.errors import UserError

if TYPE_CHECKING:  # each method imports what it needs: other commands start without it
    from curation.pyramid.history.ledger import History
    from curation.shards.manifest import Manifest
    from pipelines.commands.pyramid.query import Answer as Queried
    from pipelines.commands.pyramid.query import Request as QueryRequest
    from pipelines.commands.pyramid.runs import Seen
    from pipelines.commands.pyramid.stats import Answer as Counted
    from pipelines.commands.pyramid.stats import Request as StatsRequest
    from pipelines.commands.pyramid.tiers import Request as TiersRequest
    from pipelines.commands.pyramid.tiers import TierTable
    from pipelines.commands.pyramid.videos import VideosAnswer
    from pipelines.commands.shards.freeze import Request as FreezeRequest
    from pipelines.commands.shards.manifests import Shown
    from pipelines.commands.similar.search import Answer as Similar
    from pipelines.commands.similar.search import Request as SearchRequest


class Answers(Protocol):
    """Each method is the function of its command. Requests name the place as their `pyramid`."""

    def query(self, request: QueryRequest) -> Queried: ...

    def videos(self, request: QueryRequest, status: str | None, reason: str | None) -> VideosAnswer: ...

    def why(self, name: str) -> History: ...

    def runs(self, name: str | None) -> list[Seen]: ...

    def tiers(self, request: TiersRequest) -> TierTable: ...

    def stats(self, request: StatsRequest) -> Counted: ...

    def search(self, request: SearchRequest) -> Similar: ...

    def freeze(self, request: FreezeRequest) -> Manifest: ...

    def manifests(self, name: str | None) -> list[Shown]: ...

    def unpin(self, name: str) -> Shown: ...


def at(place: str) -> Answers:
    """Who answers for the pyramid at `place`, a folder or URI, or the address of a service."""
    from pipelines.client.address import is_address

    if not is_address(place):
        return Here(place)
    if find_spec("httpx") is None:
        raise UserError("--server needs httpx", "pip install 'ziggurat[client]'")
    from pipelines.client.answers import There
    from pipelines.client.client import Client

    return There(Client(place))


class Here:
    """The pyramid itself."""

    def __init__(self, place: str) -> None:
        self._place = place

    def query(self, request: QueryRequest) -> Queried:
        from pipelines.commands.pyramid import query

        return query.query(request)

    def videos(self, request: QueryRequest, status: str | None, reason: str | None) -> VideosAnswer:
        from pipelines.commands.pyramid import videos

        return videos.videos(request, status, reason)

    def why(self, name: str) -> History:
        from pipelines.commands.pyramid import why

        return why.why(self._place, name)

    def runs(self, name: str | None) -> list[Seen]:
        from pipelines.commands.pyramid import runs

        return runs.seen(self._place, name)

    def tiers(self, request: TiersRequest) -> TierTable:
        from pipelines.commands.pyramid import tiers

        return tiers.of_request(request)

    def stats(self, request: StatsRequest) -> Counted:
        from pipelines.commands.pyramid import stats

        return stats.stats(request)

    def search(self, request: SearchRequest) -> Similar:
        from pipelines.commands.similar import search

        return search.search(request)

    def freeze(self, request: FreezeRequest) -> Manifest:
        from pipelines.commands.shards import freeze

        return freeze.freeze(request)

    def manifests(self, name: str | None) -> list[Shown]:
        from pipelines.commands.shards import manifests

        return manifests.manifests(self._place, name)

    def unpin(self, name: str) -> Shown:
        from pipelines.commands.shards import manifests

        return manifests.unpin(self._place, name)
