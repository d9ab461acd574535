"""The decoder child: the only process that lets libav and image decoders see untrusted bytes. Run by `decoder.py`.

    python -m curation.media.sandbox.child SETUP        (`protocol.Setup` as JSON)

Standard input is a Unix socket that brings requests, each with the descriptor of its video; answers go to standard
output (see `protocol`). Before the first request it loads all that it will need, limits itself (memory, no file
written, no core dump; the parent limits its CPU and wall time), and gives up the rest of the user's reach (`confine`).
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import BinaryIO

from pydantic import TypeAdapter

from curation.contract import Clip, Facts
from curation.errors import UserError
from curation.media.plan import Encode, MediaPlan
from curation.media.results import Again, Tally
from curation.media.sandbox import faults
from curation.media.sandbox.blame import verdict_of
from curation.media.sandbox.cell import confine
from curation.media.sandbox.handle import path_of
from curation.media.sandbox.protocol import Message, Setup, WireError, receive, send

PLAN = TypeAdapter(MediaPlan)
ENCODE = TypeAdapter(Encode)
CLIPS = TypeAdapter(list[Clip])
SETUP = TypeAdapter(Setup)
_PROGRESS_EVERY_S = 0.5
_DESCRIPTORS = 64
_DESCRIPTORS_WITH_GPU = 1024


def main() -> None:
    """Serve requests until the socket closes or the parent is gone."""
    setup = SETUP.validate_json(sys.argv[1])
    confine.die_with(setup.parent)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not land between messages
    _limit(setup)
    try:
        _load(setup)
    except UserError as error:
        send(answers, "refused", {"cause": error.cause, "remedy": error.remedy})
        return
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # not sooner: some libraries try a temporary file as they load
    with socket.socket(fileno=0) as requests:  # it asks for its own kind, which it cannot later
        send(answers, "ready", asdict(confine.confine(setup.gpu)))
        while True:
            try:
                request, video = _next(requests)
            except WireError:
                return
            _answer(request, video, answers)


def _load(setup: Setup) -> None:
    """Import all that requests need: files and processes are out of reach later. `UserError` where a package lacks,
    or has not all that it can be built with.
    """
    os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] = str(setup.max_pixels)  # it looks there as it loads
    import cv2

    from curation.media.sandbox import images  # noqa: F401 - loaded for the requests below

    cv2.setNumThreads(1)
    if setup.work == "pictures":
        return
    from curation.media.still import built_in

    built_in.require()  # before the passes below are loaded: some of it is needed for that already

    import av.logging

    from curation.media import cut, measure  # noqa: F401 - loaded for the requests below
    from curation.media.pictures import develop
    from curation.media.shots import table

    av.logging.set_level(None)
    develop.prepare()
    if setup.detector is not None:
        table.prepare(setup.detector)


def _next(requests: socket.socket) -> tuple[Message, int | None]:
    """A request and the descriptor that came with it."""
    mark, descriptors, _, _ = socket.recv_fds(requests, 1, 1)
    if not mark:
        raise WireError("closed")
    return receive(lambda size: _exactly(requests, size)), descriptors[0] if descriptors else None


def _answer(request: Message, video: int | None, answers: BinaryIO) -> None:
    try:
        faults.strike(request.body["name"])
        _KINDS[request.kind](request, video, answers)
    except Exception as error:
        send(answers, "verdict", asdict(verdict_of(error)))
    finally:
        if video is not None:
            os.close(video)
    send(answers, "end")


def _measure(request: Message, video: int | None, answers: BinaryIO) -> None:
    from curation.media.measure import measure

    assert video is not None, "a request without a video"
    body = request.body
    progress = _Progress(answers)
    plan, image_pixels = PLAN.validate_python(body["plan"]), body["image_pixels"]
    for item in measure(path_of(video), plan, body["max_pixels"], progress, image_pixels):
        if isinstance(item, Facts):
            send(answers, "facts", asdict(item))
        elif isinstance(item, Tally):
            send(answers, "tally", asdict(item))
        elif isinstance(item, Again):
            send(answers, "again")
        else:
            fields = {**asdict(item), "samples": []}
            send(answers, "clip", fields, item.samples)


def _cut(request: Message, video: int | None, answers: BinaryIO) -> None:
    from curation.media.cut import cut

    assert video is not None, "a request without a video"
    body = request.body
    clips, plan, encode = CLIPS.validate_python(body["clips"]), PLAN.validate_python(body["plan"]), body["encode"]
    progress = _Progress(answers)
    for item in cut(path_of(video), clips, plan, ENCODE.validate_python(encode), body["max_pixels"], progress):
        if isinstance(item, Tally):
            send(answers, "tally", asdict(item))
        else:
            send(answers, "media", item[0].clip_id, [item[1]])


def _pictures(request: Message, video: int | None, answers: BinaryIO) -> None:
    from curation.media.sandbox.images import picture

    for file in request.blobs:
        found = picture(file)
        if found is None:
            send(answers, "picture")
        else:
            send(answers, "picture", found.shape[:2], [found.tobytes()])


def _frames(request: Message, video: int | None, answers: BinaryIO) -> None:
    from curation.media.sandbox.images import frames

    (content,) = request.blobs
    for frame in frames(content, request.body["first"], request.body["count"]):
        send(answers, "picture", frame.shape[:2], [frame.tobytes()])


def _fitted(request: Message, video: int | None, answers: BinaryIO) -> None:
    from curation.media.sandbox.images import fitted

    (content,), body = request.blobs, request.body
    for frame in fitted(content, *(body[name] for name in ("is_image", "interval", "count", "height", "width"))):
        send(answers, "picture", frame.shape[:2], [frame.tobytes()])


def _act(request: Message, video: int | None, answers: BinaryIO) -> None:
    send(answers, "acted", faults.act(request.body["act"], request.body.get("to")))


_KINDS: Mapping[str, Callable[[Message, int | None, BinaryIO], None]] = {
    "measure": _measure,
    "cut": _cut,
    "pictures": _pictures,
    "frames": _frames,
    "fitted": _fitted,
    "act": _act,
}


class _Progress:
    """Tells the parent now and then that frames still come: its silence is what a hang looks like."""

    def __init__(self, answers: BinaryIO) -> None:
        self._answers, self._next = answers, 0.0

    def __call__(self, frames: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_EVERY_S
            send(self._answers, "progress", frames)


def _limit(setup: Setup) -> None:
    """Memory, core dumps, descriptors. CUDA reserves more addresses than it uses: there, what is writable counts."""
    limits = (
        (resource.RLIMIT_DATA if setup.gpu else resource.RLIMIT_AS, setup.memory_mb << 20),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _DESCRIPTORS_WITH_GPU if setup.gpu else _DESCRIPTORS),
    )
    for which, value in limits:
        resource.setrlimit(which, (value, value))


def _exactly(stream: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = stream.recv(min(size - len(data), 1 << 20))
        if not part:
            raise WireError("closed")
        data += part
    return bytes(data)


if __name__ == "__main__":
    main()
