"""What a clip looks like: its film by ranges of bytes straight from the pyramid, its poster, its sample frames.

A browser asks for a film in pieces, and begins to play before it has all. Nothing here decodes: these are the bytes
that the cutting pass has written, and JPEG files of the measuring pass.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from curation.pyramid.queries import blobs
from curation.pyramid.queries.blobs import Blob
from pipelines.api.guard import Here
from pipelines.api.problems import not_found
from pipelines.api.ranges import part_of
from pipelines.api.routes.clips import ClipId

router = APIRouter(tags=["media"])
_PIECE = 256 << 10
_KEPT = {"Cache-Control": "private, max-age=86400"}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"video/mp4": _BINARY, "image/jpeg": _BINARY, "image/png": _BINARY}},
    206: {"description": "A part of it", "content": {"video/mp4": _BINARY}},
    304: {"description": "It is what the client has"},
    416: {"description": "No byte of it is in the range"},
}
_PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": _BINARY}},
    304: {"description": "It is what the client has"},
}


@router.get("/clips/{clip_id}/video", response_class=Response, responses=_FILM)
def video(clip_id: ClipId, request: Request, pyramid: Here) -> Response:
    """The clip's film, or of an image the picture; `Range` gives a part of it."""
    with ExitStack() as stack:
        blob = stack.enter_context(blobs.opened(pyramid, clip_id))
        if blob is None:
            raise not_found(f"the clip {clip_id} has no film", "`ziggurat cut` encodes clips that are not encoded yet")
        tag = f'"{blob.sha256}"'
        headers = {"ETag": tag, "Accept-Ranges": "bytes", **_KEPT}
        if request.headers.get("if-none-match") == tag:
            return Response(None, HTTPStatus.NOT_MODIFIED, headers)
        part = part_of(request, blob.size, tag)
        if part is None:
            return Response(
                None, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, {**headers, "Content-Range": f"bytes */{blob.size}"}
            )
        start, stop, is_part = part
        headers["Content-Length"] = str(stop - start)
        if is_part:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size}"
        status = HTTPStatus.PARTIAL_CONTENT if is_part else HTTPStatus.OK
        kind = _kind(blob.read(0, 12))
        return StreamingResponse(_pieces(stack.pop_all(), blob, start, stop), status, headers, kind)


def _pieces(stack: ExitStack, blob: Blob, start: int, stop: int) -> Iterator[bytes]:
    """The bytes, some at a time; the file is closed when they are sent, or nobody wants them any more."""
    with stack:
        for at in range(start, stop, _PIECE):
            yield blob.read(at, min(at + _PIECE, stop))


def _kind(head: bytes) -> str:
    """The media type by the first bytes of a file."""
    if head.startswith(b"\xff\xd8"):
        return "image/jpeg"
    return "image/png" if head.startswith(b"\x89PNG") else "video/mp4"


@router.get("/clips/{clip_id}/poster", response_class=Response, responses=_PICTURE)
def poster(clip_id: ClipId, request: Request, pyramid: Here) -> Response:
    """One picture of the clip: its middle sample frame."""
    frames = _frames(pyramid, clip_id)
    return _picture(request, frames[len(frames) // 2])


@router.get("/clips/{clip_id}/frames/{number}", response_class=Response, responses=_PICTURE)
def frame(clip_id: ClipId, number: int, request: Request, pyramid: Here) -> Response:
    """One of the sample frames, from 0 on, in order of time."""
    frames = _frames(pyramid, clip_id)
    if not 0 <= number < len(frames):
        raise not_found(f"the clip {clip_id} has {len(frames)} sample frames, from 0 on")
    return _picture(request, frames[number])


def _frames(pyramid: Here, clip_id: str) -> list[bytes]:
    frames = next((frames for _, frames in pyramid.samples([clip_id])), None)
    if not frames:
        raise not_found(f"the clip {clip_id} has no sample frames, or is not there")
    return frames


def _picture(request: Request, content: bytes) -> Response:
    headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', **_KEPT}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(None, HTTPStatus.NOT_MODIFIED, headers)
    return Response(content, HTTPStatus.OK, headers, "image/jpeg")
