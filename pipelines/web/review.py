"""What a person says on the page: of one clip, from its card or its own page; or of all clips that are looked at.

    /clips/ID/decision, /clips/ID/tags     one clip; htmx puts the answer in the place of what stood (a fragment)
    /review                                all that the address looks at, once the person has ticked it

Without scripts the same forms are answered with the page that they came from.
"""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from curation.pyramid.review import words
from curation.pyramid.review.words import Decision
from curation.pyramid.store import Pyramid
from pipelines.api import shapes
from pipelines.api.guard import Here, Reading, Writer
from pipelines.api.problems import ProblemError, not_found
from pipelines.api.routes.clips import ClipId
from pipelines.commands.review import saying
from pipelines.commands.review.saying import Answer
from pipelines.render.review import before, summary
from pipelines.web import views
from pipelines.web.drawn import Looking, Sent, drawn

router = APIRouter(include_in_schema=False, dependencies=[Reading], default_response_class=HTMLResponse)


@router.post("/clips/{clip_id}/decision")
def decide(request: Request, pyramid: Here, clip_id: ClipId, form: Sent, writer: Writer) -> Response:
    """Keep a clip, drop it, or with an empty field take that back."""
    wanted = _decision(form.get("decision", ""))
    known = _known(pyramid, clip_id)
    return _answered(request, pyramid, known, form, saying.decided(pyramid, known, wanted, writer.name))


@router.post("/clips/{clip_id}/tags")
def tag(request: Request, pyramid: Here, clip_id: ClipId, form: Sent, writer: Writer) -> Response:
    """Tag a clip: `sunset, -blurry`."""
    known, retag = _known(pyramid, clip_id), words.typed(form.get("tags", ""))
    return _answered(request, pyramid, known, form, saying.tagged(pyramid, known, retag, writer.name))


@router.post("/review")
def review(request: Request, pyramid: Here, look: Looking, form: Sent, writer: Writer) -> Response:
    """Decide on all clips that are looked at, or tag them."""
    if look.wrong or look.typed.get("text") or look.typed.get("like"):
        told = "only clips of ranges and a tier are decided on together"
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, told, "leave the search out, and what is wrong")
    if "all" not in form:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "nothing was changed", "tick that all clips are meant")
    meant = saying.of_query(look.query(pyramid))
    if "decision" in form:
        answer = saying.decided(pyramid, meant, _decision(form["decision"]), writer.name)
    else:
        answer = saying.tagged(pyramid, meant, words.typed(form.get("tags", "")), writer.name)
    gone = [before(one) for one in answer.changed.told]
    return drawn(request, pyramid, "said.html", look=look, told=summary(answer), gone=gone, notes=answer.notes)


def _decision(text: str) -> Decision | None:
    return words.decision(text) if text else None


def _known(pyramid: Pyramid, clip_id: str) -> saying.Meant:
    if shapes.clip(pyramid, clip_id, "clip_id") is None:
        raise not_found(f"there is no clip {clip_id}")
    return saying.Meant((clip_id,))


def _answered(
    request: Request, pyramid: Pyramid, meant: saying.Meant, form: dict[str, str], answer: Answer
) -> Response:
    """The part of a page that says what stands of a clip now, and in words what has happened."""
    if "hx-request" not in request.headers:
        return RedirectResponse(_back(request), HTTPStatus.SEE_OTHER)
    (clip_id,) = meant.clips
    row = shapes.clip(pyramid, clip_id, *views.COLUMNS)
    if row is None:
        raise not_found(f"there is no clip {clip_id} any more")
    told = "; ".join([summary(answer), *map(before, answer.changed.told)])
    return drawn(request, pyramid, "answered.html", card=views.card(row, ()), told=told, whole="whole" in form)


def _back(request: Request) -> str:
    """The page of ours that a form was sent from."""
    came = urlsplit(request.headers.get("referer", ""))
    path = f"/{came.path.lstrip('/')}"  # never two: that would be another host
    return f"{path}?{came.query}" if came.query else path
