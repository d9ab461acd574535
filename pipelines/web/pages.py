"""The pages of the service: read this first.

    /            the grid of clips, with bounds to move, what tiers keep and filters drop
    /grid        more of the grid, as one scrolls                              (a fragment)
    /review      what a person says of one clip, or of all that is looked at   (`review`)
    /near        what lies just inside and just outside a bound, side by side
    /clips/ID    one clip: film, frames, scores, caption, source, lineage, copies, what is like it
    /copies      clips beside the better ones that they are copies of, the least alike first
    /manifests   what was frozen, and what no bucket took
    /videos      sources that were not taken, by reason, with what was measured
    /runs        runs, at work or ended
    /jobs        jobs of a Ray cluster, each with what it says, and forms to start one     (`work`)
    /exports     exports that the service writes, and a form to start one                  (`work`)
    /training    training runs, with curves, checkpoints and sampled videos             (`trained`)
    /enter       the link that the service opens with: begins a session

All that a page looks at is in its address (`state`). Pages are drawn here, whole (`drawn`); htmx puts parts of them in
the place of others, and without it links and forms do the same.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles

from curation.contract import LIKENESS, Status
from curation.errors import UserError
from curation.pyramid.history import runs as records
from curation.pyramid.history.census import census
from curation.pyramid.queries.paging import Place, page
from curation.pyramid.queries.videos import listing
from curation.pyramid.similar.places import BEST
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retention import tier_report
from curation.pyramid.tiering.tiers import Range, is_score, single
from curation.reasons import REASONS
from pipelines.api.guard import COOKIE, Here, Reading, Writing, served
from pipelines.api.problems import ProblemError, not_found
from pipelines.api.routes.clips import ClipId, clip
from pipelines.api.served import SESSION_S, Served
from pipelines.api.shapes import rows
from pipelines.commands.pyramid import tiers as moving
from pipelines.commands.shards import freeze as freezing
from pipelines.commands.shards import manifests as shards
from pipelines.commands.similar import search
from pipelines.web import review, trained, views, work
from pipelines.web.drawn import HOME, Looking, Sent, drawn
from pipelines.web.state import State

A_PAGE, FOUND, NEAR, VIDEOS, PAIRS = 48, 60, 12, 200, 24
router = APIRouter(include_in_schema=False, dependencies=[Reading], default_response_class=HTMLResponse)
entrance = APIRouter(include_in_schema=False)


def mount(app: FastAPI) -> None:
    """Add the pages to the service."""
    app.include_router(entrance)
    app.include_router(router)
    app.include_router(review.router)
    app.include_router(work.router)
    app.include_router(trained.router)
    app.mount("/assets", StaticFiles(directory=HOME / "assets"), name="assets")


@entrance.get("/enter")
def enter(key: Annotated[str, Query(max_length=200)], here: Annotated[Served, Depends(served)]) -> Response:
    """Begin a session, and leave the key out of the address."""
    cookie = here.sessions.enter(key)
    if cookie is None:
        raise ProblemError(HTTPStatus.FORBIDDEN, "this link was used, or is too old", "start `ziggurat serve` again")
    answer = RedirectResponse("/", HTTPStatus.SEE_OTHER)
    answer.set_cookie(
        COOKIE, cookie, int(SESSION_S), httponly=True, samesite="strict", secure=here.settings.secure, path="/"
    )
    return answer


@router.get("/")
def home(request: Request, pyramid: Here, look: Looking) -> Response:
    """The grid, or what a search has found, with bounds and tiers."""
    now = tier_report(pyramid)
    tried = tier_report(pyramid, look.tiers(pyramid)) if look.tier is not None else now
    shown: dict[str, Any] = {"fields": views.fields(pyramid, look), "steps": views.steps(now, tried)}
    return drawn(request, pyramid, "home.html", look=look, **shown, **_grid(pyramid, look, None))


@router.get("/grid")
def grid(
    request: Request, pyramid: Here, look: Looking, after: Annotated[str | None, Query(max_length=500)] = None
) -> Response:
    """The cards after a place."""
    return drawn(request, pyramid, "grid.html", look=look, **_grid(pyramid, look, after))


def _grid(pyramid: Pyramid, look: State, after: str | None) -> dict[str, Any]:
    text, like = look.typed.get("text"), look.typed.get("like")
    if text or like:
        return _searched(pyramid, look, text, like)
    try:
        query = look.query(pyramid)
        got = page(query.columns(*views.COLUMNS, *pyramid.scores), A_PAGE, Place.of(after) if after else None)
    except UserError as error:
        return {"cards": [], "total": 0, "more": None, "notes": [str(error)]}
    more = None if got.following is None else look.address("/grid", after=got.following.encoded())
    total = query.at(got.version).count() if after is None else None
    cards = [views.card(row, pyramid.scores) for row in rows(got.rows)]
    return {"cards": cards, "total": total, "more": more, "notes": []}


def _searched(pyramid: Pyramid, look: State, text: str | None, like: str | None) -> dict[str, Any]:
    ranges = look.ranges(pyramid)
    wanted = [f"--{column}={views.shown_bound(one)}" for column, one in ranges.items()]
    wanted += [f"--{name}={look.typed[name]}" for name in look.others if name in look.typed]
    wanted += ["--decision=keep,null"] if look.tier is not None and "decision" not in look.others else []
    columns = ",".join((*views.COLUMNS, *pyramid.scores))
    request = search.Request(
        pyramid.uri, None if like else text, like, None, None, wanted, limit=FOUND, columns=columns
    )
    try:
        found = search.search(request)
    except UserError as error:
        return {"cards": [], "total": 0, "more": None, "notes": [str(error)]}
    cards = [views.card(row, pyramid.scores) for row in rows(found.rows)]
    return {"cards": cards, "total": len(cards), "more": None, "notes": list(found.notes)}


@router.get("/near")
def near(
    request: Request, pyramid: Here, look: Looking, column: str, side: Annotated[str, Query(pattern="low|high")]
) -> Response:
    """The clips nearest to one end of a bound, on both sides of it, that all other bounds keep."""
    bounds = look.ranges(pyramid).get(column)
    end = getattr(bounds, side, None) if isinstance(bounds, Range) else None
    if end is None:
        raise not_found(f"{column} has no {side} bound here", "set one on the page before")
    sides = _sides(look.query(pyramid, without=column), column, end, side)
    return drawn(request, pyramid, "near.html", look=look, column=column, end=f"{end:g}", sides=sides)


def _sides(query: Any, column: str, end: float, side: str) -> list[tuple[str, str, list[views.Card]]]:
    """What a bound drops and keeps nearest to it. A value that is the bound's own is kept."""
    scores, asked = query.pyramid.scores, dict.fromkeys((*views.COLUMNS, *query.pyramid.scores, column))
    edge = single(end) if is_score(column) else end
    found: list[tuple[str, str, list[views.Card]]] = []
    for name, bounds, falls in (("below", (None, end), True), ("above", (end, None), False)):
        kept = falls == (side == "high")
        nearest = query.where(**{column: bounds}).order(column, descending=falls).columns(*asked).limit(4 * NEAR)
        some = [row for row in rows(nearest.to_table()) if kept or row[column] != edge][:NEAR]
        found.append(("kept" if kept else "dropped", name, [views.card(row, scores) for row in some]))
    return found


@router.get("/clips/{clip_id}")
def one(request: Request, pyramid: Here, clip_id: ClipId) -> Response:
    """One clip."""
    known = clip(clip_id, pyramid)
    frames = next((len(found) for _, found in pyramid.samples([clip_id])), 0)
    scores = [(name, known.clip.get(name), known.clip.get(f"{name}_why")) for name in pyramid.scores]
    shown = {"known": known, "frames": frames, "scores": scores}
    return drawn(request, pyramid, "clip.html", card=views.card(known.clip, pyramid.scores), **shown)


@router.get("/videos")
def videos(request: Request, pyramid: Here, status: Status = Status.REJECTED, reason: str | None = None) -> Response:
    """Sources by what became of them."""
    found = listing(pyramid, status, reason)
    counted = [(key, many) for key, many in census(pyramid).videos.items() if key[0] == status]
    table, _ = found.page(VIDEOS)
    remedies = {str(name): told for name, told in REASONS.items()}
    return drawn(
        request,
        pyramid,
        "videos.html",
        status=status,
        statuses=list(Status),
        reason=reason,
        counted=counted,
        videos=rows(table),
        total=found.count(),
        remedies=remedies,
    )


@router.get("/copies")
def copies(request: Request, pyramid: Here, after: Annotated[str | None, Query(max_length=500)] = None) -> Response:
    """Pairs of a copy and the better clip, those near the threshold first."""
    if LIKENESS not in pyramid.scores:
        return drawn(request, pyramid, "copies.html", pairs=[], more=None, total=None)
    columns = dict.fromkeys((*views.COLUMNS, *pyramid.scores, BEST))
    found = pyramid.query().having(BEST).order(LIKENESS).columns(*columns)
    got = page(found, PAIRS, Place.of(after) if after else None)
    some = rows(got.rows)
    bests = pyramid.query().where(clip_id=[row[BEST] for row in some] or "").columns(*columns).limit(PAIRS)
    cards = {row["clip_id"]: views.card(row, pyramid.scores) for row in rows(bests.to_table())}
    pairs = [(row[LIKENESS], views.card(row, pyramid.scores), cards.get(row[BEST])) for row in some]
    more = None if got.following is None else f"/copies?after={got.following.encoded()}"
    return drawn(request, pyramid, "copies.html", pairs=pairs, more=more, total=found.at(got.version).count())


@router.get("/manifests")
def manifests(request: Request, pyramid: Here) -> Response:
    """What was frozen."""
    found = [one.manifest for one in shards.manifests(pyramid.uri)]
    return drawn(request, pyramid, "manifests.html", manifests=found)


@router.post("/manifests", dependencies=[Writing])
def freeze(pyramid: Here, look: Looking, form: Sent) -> Response:
    """Freeze what is looked at: a tier as it is in force, and the conditions beside it."""
    if look.tier is not None and look.bounds:
        told = f"the bounds that are tried are not those of {look.tier}"
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, told, "save them first, or take them back")
    wanted = [f"--{column}={value}" for column, value in look.typed.items() if column in {*look.bounds, *look.others}]
    freezing.freeze(
        freezing.Request(pyramid.uri, form.get("name", ""), wanted, look.tier, without_captions="bare" in form)
    )
    return RedirectResponse("/manifests", HTTPStatus.SEE_OTHER)


@router.get("/runs")
def runs(request: Request, pyramid: Here) -> Response:
    """The newest runs."""
    found = [(run, records.state(run)) for run in reversed(records.listed(pyramid.files)[-50:])]
    return drawn(request, pyramid, "runs.html", runs=found)


@router.post("/tiers/{name}", dependencies=[Writing])
def save(name: str, pyramid: Here, look: Looking) -> Response:
    """Put the bounds that are tried in force as those of a tier, for everybody."""
    if look.tier != name or not look.bounds or look.wrong:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"no bound of {name} was moved", "move one, and save again")
    moving.table_after(pyramid, name, {column: _pair(one) for column, one in look.bounds.items()})
    return RedirectResponse(f"/?tier={name}", HTTPStatus.SEE_OTHER)


def _pair(one: Any) -> Any:
    return (one.low, one.high) if isinstance(one, Range) else str(one)
