"""Damaged files end in a reason of their own: no fault of ours, no hang, and no neighbour that suffers for it."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from curation.contract import Reason
from curation.media.plan import ClipPlan, Encode, Limits, MediaPlan, Rules
from curation.media.sandbox.sandbox import Sandbox, VideoMeasure
from curation.reasons import is_lost
from tests.support import numbered
from tests.support.damage import damaged
from tests.support.measuring import as_clips
from tests.support.numbered import KINDS

PLAN = MediaPlan(rules=Rules(banned_profiles=(), min_bpp=0, min_fps=10, min_duration_s=1), clips=ClipPlan(min_s=0.5))
LIMITS = Limits(silence_s=30, wall_s=120, cpu_s=60, memory_mb=2048)
NEVER = {Reason.TIMED_OUT, Reason.CPU_LIMIT, *(reason for reason in Reason if is_lost(reason))}
BASES = [
    "mp4",
    "mp4 open gop",
    "mp4 fragmented",
    "mp4 hevc",
    "mkv",
    "webm vp8",
    "webm vp9",
    "avi mpeg4",
    "ts",
    "mpg",
    "flv",
    "ogv",
]
NEIGHBOUR_EVERY = 10


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("bases")
    return [numbered.write(folder / f"{n}", KINDS[name], 90, (40,), 25, n) for n, name in enumerate(BASES)]


def run(bases: list[Path], folder: Path, seeds: range) -> Counter[str]:
    """Measure damaged files, cut what comes out, and between them a sound one; what became of them, by reason."""
    outcomes: Counter[str] = Counter()
    with Sandbox(LIMITS) as sandbox:
        sound = [_measured(sandbox, base).clips for base in bases]
        for seed in seeds:
            random_ = random.Random(seed)
            base, other = random_.choice(bases), random_.choice(bases)
            way, data = damaged(base.read_bytes(), other.read_bytes(), random_)
            file = folder / f"{seed}{base.suffix}"
            file.write_bytes(data)
            outcomes[_outcome(sandbox, file, f"seed {seed}, {way} of {base.name}")] += 1
            file.unlink()
            if seed % NEIGHBOUR_EVERY == 0:
                which = random_.randrange(len(bases))
                assert _measured(sandbox, bases[which]).clips == sound[which], f"a neighbour of seed {seed} suffered"
    return outcomes


def _measured(sandbox: Sandbox, path: Path) -> VideoMeasure:
    return sandbox.measure(path, path.name, PLAN)


def _outcome(sandbox: Sandbox, file: Path, what: str) -> str:
    found = _measured(sandbox, file)
    if found.verdict is not None:
        assert found.verdict.reason not in NEVER, f"{what}: {found.verdict}"
        return str(found.verdict.reason)
    for clip in as_clips(found):  # pyright: ignore[reportArgumentType]
        made = sandbox.cut(file, file.name, [clip], PLAN, Encode(preset="ultrafast"))
        if made.verdict is not None:
            assert made.verdict.reason not in NEVER, f"{what}, cutting: {made.verdict}"
            return f"not cut: {made.verdict.reason}"
        numbers = numbered.numbers(made.media[0][1])
        assert len(numbers) == clip.frames, what
    return "clips"


def test_damaged_files_end_in_their_own_reason(bases: list[Path], tmp_path: Path) -> None:
    outcomes = run(bases, tmp_path, range(60))
    assert outcomes["clips"], "the damage leaves nothing whole: nothing was tested"
    assert len(outcomes) > 3


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
def test_two_thousand_damaged_files(bases: list[Path], tmp_path: Path) -> None:
    run(bases, tmp_path, range(1000, 3000))
