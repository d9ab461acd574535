"""The decoder's cell where a GPU decodes: its driver works in there, and nothing more is open than it needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from curation.media.plan import Limits, MediaPlan
from curation.media.sandbox import decoder, faults
from curation.media.sandbox.cell import confine
from curation.media.sandbox.protocol import Setup
from curation.media.sandbox.sandbox import Sandbox
from tests.support import media

LIMITS = Limits()
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not list(Path("/dev").glob("nvidia[0-9]*")), reason="no NVIDIA device node here"),
]


def test_a_gpu_decodes_in_the_cell() -> None:
    path = media.sample("scenes.mp4")
    with Sandbox(LIMITS) as sandbox:
        plain = sandbox.measure(path, path.name, MediaPlan())
        assert sandbox.level == confine.level()
        found = sandbox.measure(path, path.name, MediaPlan(hwaccel="cuda"))
        assert sandbox.level == confine.level(gpu=True)
    assert found.verdict is None, found.verdict
    assert [(clip.start_frame, clip.end_frame) for clip in found.clips] == [
        (clip.start_frame, clip.end_frame) for clip in plain.clips
    ]


@pytest.mark.skipif(not confine.level().holds, reason="this kernel lacks Landlock or seccomp")
@pytest.mark.parametrize(
    ("act", "to"),
    [
        ("read", "/etc/passwd"),
        ("read", f"/proc/{os.getpid()}/environ"),
        ("create", "/tmp/ziggurat-act"),
        ("connect", ["AF_INET", ["127.0.0.1", 9]]),
        ("signal", os.getpid()),
        ("execute", "/bin/true"),
    ],
)
def test_the_rest_stays_shut(monkeypatch: pytest.MonkeyPatch, act: str, to: object) -> None:
    monkeypatch.setenv(faults.SWITCH, "1")
    child = decoder.Decoder(Setup(os.getpid(), 4096, LIMITS.max_pixels, gpu=True))
    try:
        (answer,) = child.ask("act", {"name": act, "act": act, "to": to}, LIMITS, lambda frames: None)
        assert answer.body in ("refused: Permission denied", "refused: Operation not permitted")
    finally:
        child.kill()
