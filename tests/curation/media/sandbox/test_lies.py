"""What a decoder that is taken over may answer, or not answer: it costs its own video, in bounded time, and no other.

The child here is a stand-in that says what a test has it say; the parent is the real one.
"""

from __future__ import annotations

import io
import json
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.contract import Reason
from curation.media.plan import Limits, MediaPlan
from curation.media.sandbox import decoder
from curation.media.sandbox.decoder import Decoder, Ended
from curation.media.sandbox.protocol import UNLIKELY, Message, Setup, WireError, receive
from curation.media.sandbox.sandbox import Sandbox, _Answers
from tests.support import media

IMPATIENT = Limits(silence_s=1.0, memory_mb=1024)
PATIENT = Limits(silence_s=60.0, memory_mb=1024)
PRELUDE = """
import os, socket, struct, time
def say(kind, body="null", blobs="[]"):
    header = '{"kind": "%s", "body": %s, "blobs": %s}' % (kind, body, blobs)
    os.write(1, struct.pack(">IQ", len(header), 0) + header.encode())
def hear():
    if not asked.recv(1):
        os._exit(0)
    header, blobs = struct.unpack(">IQ", asked.recv(12, socket.MSG_WAITALL))
    return asked.recv(header + blobs, socket.MSG_WAITALL)
asked = socket.socket(fileno=0)
say("ready", '{"landlock": 0, "seccomp": false, "gpu": false}')
"""
Stand = Callable[[str], None]


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stand:
    """Have the children run this code after the prelude."""

    def write(code: str) -> None:
        package = tmp_path / "curation" / "media" / "sandbox"
        package.mkdir(parents=True)
        for folder in (package.parents[1], package.parent, package):
            (folder / "__init__.py").touch()
        (package / "child.py").write_text(PRELUDE + code)
        monkeypatch.setattr(decoder, "_ROOT", str(tmp_path))

    return write


@pytest.fixture
def started() -> Iterator[Callable[[], Decoder]]:
    made: list[Decoder] = []

    def start() -> Decoder:
        made.append(Decoder(Setup(os.getpid(), 1024, IMPATIENT.max_pixels)))
        return made[-1]

    yield start
    for child in made:
        child.kill()


def asked(child: Decoder, body: dict[str, Any]) -> list[Message]:
    return list(child.ask("pictures", {"name": "a", **body}, IMPATIENT, lambda frames: None))


@pytest.mark.parametrize(
    ("code", "blob"),
    [
        ("hear(); os.close(1); time.sleep(30)", b""),
        ("time.sleep(30)", bytes(8 << 20)),
        ("asked.close(); time.sleep(30)", bytes(8 << 20)),
    ],
    ids=["closes its answers and lives", "never reads", "closes its requests and lives"],
)
def test_no_child_outlasts_its_limits(stand_in: Stand, started: Callable[[], Decoder], code: str, blob: bytes) -> None:
    stand_in(code)
    child = started()
    with pytest.raises(Ended) as ended:
        asked(child, {"blobs": [blob]})
    assert (ended.value.verdict.reason, ended.value.verdict.measured) == (Reason.TIMED_OUT, 1.0)


def test_a_child_that_is_ended_for_its_silence_leaves_no_process(
    stand_in: Stand, started: Callable[[], Decoder]
) -> None:
    stand_in("hear(); os.close(1); time.sleep(30)")
    child = started()
    with pytest.raises(Ended):
        asked(child, {})
    assert not psutil.pid_exists(child.process.pid)


@pytest.mark.parametrize(
    ("number", "reason"),
    [("SIGKILL", Reason.WORKER_LOST), ("SIGTERM", Reason.WORKER_LOST), ("SIGSEGV", Reason.CRASHED)],
)
def test_a_child_that_is_killed_from_outside_does_not_tell_of_its_video(
    stand_in: Stand, number: str, reason: Reason
) -> None:
    stand_in(f"import signal; hear(); os.kill(os.getpid(), signal.{number}); time.sleep(30)")
    path = media.sample("plain.mp4")
    with Sandbox(PATIENT) as sandbox:
        found = sandbox.measure(path, path.name, MediaPlan())
    assert found.verdict is not None and found.verdict.reason is reason
    assert number in found.verdict.detail


@pytest.mark.parametrize(
    "lie",
    [
        "say('clip', '{}', '[Infinity]')",
        "say('clip', '{}', '[NaN]')",
        "say('progress', 'Infinity')",
        "say('progress', '[]')",
        "say('verdict', '[]')",
        "say('picture', '[1e999, 1]')",
        "say('media', '[' * 900 + ']' * 900)",
        "say('no such')",
    ],
)
def test_a_lie_is_a_verdict_and_the_child_is_ended(stand_in: Stand, lie: str) -> None:
    stand_in(f"while True: hear(); {lie}; say('end')")
    path = media.sample("plain.mp4")
    with Sandbox(PATIENT) as sandbox:
        found = sandbox.measure(path, path.name, MediaPlan())
        assert found.verdict is not None and found.verdict.reason is Reason.INTERNAL
        assert found.verdict.detail.startswith("the decoder's answer: ")
        assert sandbox.level is None


def test_a_child_that_gives_neither_clips_nor_a_reason_has_not_judged_its_video(stand_in: Stand) -> None:
    stand_in("while True: hear(); say('end')")
    path = media.sample("plain.mp4")
    with Sandbox(PATIENT) as sandbox:
        found = sandbox.measure(path, path.name, MediaPlan())
    assert found.verdict is not None and found.verdict.reason is Reason.INTERNAL


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
KINDS = st.sampled_from(["facts", "again", "clip", "media", "picture", "tally", "verdict"])


@given(st.builds(dict, kind=KINDS | JSON, body=JSON, blobs=st.lists(st.integers() | st.floats()) | JSON) | JSON)
def test_any_header_is_a_message_or_refused(header: object) -> None:
    said = json.dumps(header).encode()
    try:
        message = receive(io.BytesIO(struct.pack(">IQ", len(said), 0) + said).read)
    except WireError:
        return
    assert isinstance(message, Message)


SIDES = st.integers() | st.floats()


@given(KINDS | st.text(), st.lists(SIDES, min_size=2, max_size=2) | JSON, st.lists(st.binary(), max_size=2))
def test_any_answer_is_taken_or_unlikely(kind: str, body: object, blobs: list[bytes]) -> None:
    try:
        _Answers().take(Message(kind, body, tuple(blobs)))
    except UNLIKELY:
        pass


TWO_ANSWERS = """
count = 0
while True:
    hear()
    count += 1
    say("progress", "1")
    say("verdict", '{"reason": "broken", "measured": null, "detail": "of request %d of %d"}' % (count, os.getpid()))
    say("end")
"""


@pytest.mark.parametrize("error", [OSError("disk"), RuntimeError("ours"), KeyboardInterrupt()])
def test_answers_that_were_not_heard_are_not_the_next_videos(stand_in: Stand, error: BaseException) -> None:
    stand_in(TWO_ANSWERS)
    path = media.sample("plain.mp4")

    def fail(frames: int) -> None:
        raise error

    with Sandbox(PATIENT) as sandbox:
        if isinstance(error, OSError):
            found = sandbox.measure(path, "first", MediaPlan(), fail)
            assert found.verdict is not None and found.verdict.reason is Reason.INTERNAL
        else:
            with pytest.raises(type(error)):
                sandbox.measure(path, "first", MediaPlan(), fail)
        assert sandbox.level is None, "the child that was asked is gone"
        after = sandbox.measure(path, "next", MediaPlan()).verdict
        assert after is not None and "of request 1 of" in after.detail


def test_a_video_that_does_not_open_leaves_the_child_to_the_next(stand_in: Stand, tmp_path: Path) -> None:
    stand_in(TWO_ANSWERS)
    with Sandbox(PATIENT) as sandbox:
        for number in (1, 2):
            found = sandbox.measure(tmp_path / "gone", "gone", MediaPlan()).verdict
            assert found is not None and "FileNotFoundError" in found.detail
            after = sandbox.measure(media.sample("plain.mp4"), "next", MediaPlan()).verdict
            assert after is not None and f"of request {number} of" in after.detail
