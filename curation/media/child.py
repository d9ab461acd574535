"""The decoder child: the only process that lets libav see untrusted bytes. Started and watched by `sandbox.py`.

    python -m curation.media.child MEMORY_MB DETECTOR

It takes `measure` and `cut` requests on standard input and answers on standard output (see `wire.py`). It limits itself
before the first request: memory, no files written, no core dump; the parent limits its CPU and wall time. What the
shot detector needs is loaded before that, for torch writes files at its start.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

from pydantic import TypeAdapter

from curation.contract import Clip, Facts, Reason, Verdict
from curation.media import faults
from curation.media.found import Tally
from curation.media.plan import Encode, MediaPlan
from curation.media.probe import Unfit
from curation.media.shots import prepare
from curation.media.wire import Message, WireError, receive, send

PLAN = TypeAdapter(MediaPlan)
ENCODE = TypeAdapter(Encode)
CLIPS = TypeAdapter(list[Clip])
_PROGRESS_EVERY_S = 0.5


def main() -> None:
    """Serve requests until standard input closes or the parent is gone."""
    prepare(sys.argv[2])
    _confine(int(sys.argv[1]))
    threading.Thread(target=_die_with_parent, args=(os.getppid(),), daemon=True).start()
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not land between messages
    import av.logging
    import cv2

    av.logging.set_level(None)
    cv2.setNumThreads(1)
    send(answers, "ready")
    while True:
        try:
            message = receive(lambda n: _exactly(requests, n))
        except WireError:
            return
        _answer(message, answers)


def _answer(request: Message, answers: BinaryIO) -> None:
    try:
        faults.strike(request.body["name"])
        (_measure if request.kind == "measure" else _cut)(request, answers)
    except Unfit as unfit:
        send(answers, "verdict", asdict(unfit.verdict))
    except MemoryError:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0] >> 20
        send(answers, "verdict", asdict(Verdict(Reason.MEMORY_LIMIT, float(limit))))
    except Exception:
        send(answers, "verdict", asdict(Verdict(Reason.INTERNAL, detail=traceback.format_exc(limit=-4))))
    send(answers, "end")


def _measure(request: Message, answers: BinaryIO) -> None:
    from curation.media.measure import measure

    body = request.body
    progress = _Progress(answers)
    for item in measure(Path(body["path"]), PLAN.validate_python(body["plan"]), body["max_pixels"], progress):
        if isinstance(item, Facts):
            send(answers, "facts", asdict(item))
        elif isinstance(item, Tally):
            send(answers, "tally", asdict(item))
        else:
            fields = {**asdict(item), "samples": []}
            send(answers, "clip", fields, item.samples)


def _cut(request: Message, answers: BinaryIO) -> None:
    from curation.media.cut import cut

    body = request.body
    clips, plan, encode = CLIPS.validate_python(body["clips"]), PLAN.validate_python(body["plan"]), body["encode"]
    progress = _Progress(answers)
    for item in cut(Path(body["path"]), clips, plan, ENCODE.validate_python(encode), body["max_pixels"], progress):
        if isinstance(item, Tally):
            send(answers, "tally", asdict(item))
        else:
            send(answers, "media", item[0].clip_id, [item[1]])


class _Progress:
    """Tells the parent now and then that frames still come: its silence is what a hang looks like."""

    def __init__(self, answers: BinaryIO) -> None:
        self._answers, self._next = answers, 0.0

    def __call__(self, frames: int) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _PROGRESS_EVERY_S
            send(self._answers, "progress", frames)


def _confine(memory_mb: int) -> None:
    limits = (
        (resource.RLIMIT_AS, memory_mb << 20),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 64),
    )
    for which, value in limits:
        resource.setrlimit(which, (value, value))


def _die_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise WireError("closed")
    return data


if __name__ == "__main__":
    main()
