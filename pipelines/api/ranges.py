"""Ranges of bytes that a request asks for (RFC 9110, section 14): of films, and of a log that grows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO

from fastapi import Request
from fastapi.responses import Response, StreamingResponse

_PIECE = 256 << 10

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
RESPONSES: dict[int | str, dict[str, Any]] = {
    206: {"description": "A part of it"},
    416: {"description": "No byte of it is in the range"},
}


def answer(request: Request, content: bytes, kind: str) -> Response:
    """All of a content that is in memory, or the part that is asked for."""
    part = part_of(request, len(content), "")
    headers = {"Accept-Ranges": "bytes", "Cache-Control": "no-store"}
    if part is None:
        headers["Content-Range"] = f"bytes */{len(content)}"
        return Response(None, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
    start, stop, is_part = part
    if not is_part:
        return Response(content, HTTPStatus.OK, headers, kind)
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
    return Response(content[start:stop], HTTPStatus.PARTIAL_CONTENT, headers, kind)


def of_file(request: Request, path: Path, kind: str) -> Response:
    """A file, or the part of it that is asked for, some at a time."""
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb"))
        status = os.fstat(file.fileno())
        tag = f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        headers = {"Accept-Ranges": "bytes", "ETag": tag, "Cache-Control": "private, max-age=3600"}
        part = part_of(request, status.st_size, tag)
        if part is None:
            headers["Content-Range"] = f"bytes */{status.st_size}"
            return Response(None, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
        start, stop, is_part = part
        headers["Content-Length"] = str(stop - start)
        if is_part:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{status.st_size}"
        answer = HTTPStatus.PARTIAL_CONTENT if is_part else HTTPStatus.OK
        return StreamingResponse(_pieces(stack.pop_all(), file, start, stop), answer, headers, kind)


def _pieces(stack: ExitStack, file: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    with stack:
        file.seek(start)
        while start < stop and (piece := file.read(min(_PIECE, stop - start))):
            start += len(piece)
            yield piece


def part_of(request: Request, size: int, tag: str) -> tuple[int, int, bool] | None:
    """The first byte that is asked for, the one after the last, and whether a range asks; None where it has no byte.
    What is no range of one part, or one of another version, means all (RFC 9110, section 14.2).
    """
    match = _RANGE.fullmatch(request.headers.get("range", "").replace(" ", ""))
    if match is None or request.headers.get("if-range", tag) != tag:
        return 0, size, False
    first, last = match.groups()
    if not first and not last:
        return 0, size, False
    if first:
        start, stop = int(first), int(last) + 1 if last else size
        if last and stop <= start:
            return 0, size, False
    else:
        start, stop = max(0, size - int(last)), size
    stop = min(stop, size)
    return (start, stop, True) if start < stop else None
