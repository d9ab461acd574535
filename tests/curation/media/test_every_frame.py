"""A clip holds exactly the frames that were measured (promise P20): a property over containers, codecs, rates, breaks.

Every picture of a source shows its number. Whatever the container, whichever clips are cut and in whatever order, a
clip's numbers are those between its first and last frame, each once at its place, and nothing is lost unsaid.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from curation.contract import Clip, Ending
from curation.media.plan import ClipPlan, Encode, MediaPlan, Rules
from tests.support import numbered, spoilt
from tests.support.measuring import as_clips, cuts, measured
from tests.support.numbered import KINDS, Kind
from tests.support.spoilt import SPOILT

FINE = Encode(preset="ultrafast", crf=14)
LEAST = 18
"""Frames of the source that the shortest clip is made of."""

SMEARED = 60
"""Mean square error of a picture that is predicted from others than it should be: sound ones have 20 at most."""

RULES = Rules(banned_profiles=(), min_fps=11, min_bpp=0, min_aspect=0, max_aspect=100, min_duration_s=0.2)
RATES = (12, 15, 24000 / 1001, 25, 30000 / 1001, 30, 30.05, 48, 50, 60000 / 1001, 60, 90, 120, 240)


@dataclass(frozen=True)
class Source:
    """What is written: pictures, where scenes begin, rate."""

    total: int
    cuts: tuple[int, ...]
    fps: float


def drawn(seed: int, kind: Kind) -> Source:
    """A source of some seconds with cuts at any frames, at any rate where the kind has none of its own."""
    random_ = random.Random(seed)
    own = bool(kind.times) or kind.encode[1] in ("mpeg2video", "mpeg4") or kind.suffix in (".h264", ".hevc")
    fps = 25 if own else random_.choice(RATES)
    total = int(min(random_.uniform(4, 7) * fps, 400))
    places = sorted(random_.sample(range(20, total - 20), k=min(4, total // 40)))
    apart = [cut for before, cut in itertools.pairwise([0, *places]) if cut - before > 20]
    return Source(total, tuple(apart), fps)


def check(path: Path, kind: Kind, source: Source, seed: int) -> None:
    """Clips of a source of this kind are what a plain decode from the beginning shows."""
    made = numbered.write(path, kind, source.total, source.cuts, source.fps, seed)
    breaks = len(source.cuts) + bool(kind.join) + (source.total // 90 if "floor(N/90)" in kind.times else 0)
    # A decoder needs a clean start after a join, and glitches in a program stream's clock end a clip.
    unclean = 45 if kind.join == "bytes" or kind.suffix == ".mpg" else 0
    compare(made, kind, source, seed, truth(made, kind, source), breaks, unclean)


def compare(path: Path, kind: Kind, source: Source, seed: int, shown: list[int], breaks: int, unclean: int) -> None:
    """Measure, then cut a random subset in random orders, and compare with the numbers and pictures that were written.

    `breaks`: how often the material does not go on. `unclean`: pictures that may be lost for want of a clean start.
    """
    least, most = LEAST / source.fps, random.Random(seed).choice([40, 80, 400]) / source.fps
    plan = MediaPlan(rules=RULES, clips=ClipPlan(min_s=least, max_s=most))
    clips = as_clips(measured(path, plan))
    assert clips, "no clip"
    originals = list(numbered.pictures(0, source.total, source.cuts, seed=seed))
    for some in subsets(clips, seed):
        made, _ = cuts(path, some, plan, FINE)
        for clip, data in zip(sorted(some, key=lambda c: c.start_frame), made, strict=True):
            pictures = upright(data, kind)
            numbers = [numbered.read(picture) for picture in pictures]
            holds(clip, numbers, shown, plan)
            if not kind.times:  # a constant rate: each picture of the stride once
                assert clip.fps is not None
                assert numbers == shown[clip.start_frame : clip.end_frame : round(source.fps / clip.fps)]
            if not kind.join:  # what is joined may be of another size
                worst = max(spoilt.error_of(p, originals[n]) for p, n in zip(pictures, numbers, strict=True))
                assert worst < SMEARED, "a picture is predicted from what is not there"
    covered(clips, shown, source, breaks, unclean)


def truth(path: Path, kind: Kind, source: Source) -> list[int]:
    """The number of each picture of the timeline."""
    if kind.copy[:1] == ("-ss",):
        first = source.total - len(numbered.numbers(path))
        return list(range(first, source.total))
    return list(range(source.total))


def upright(data: bytes, kind: Kind) -> list[np.ndarray]:
    """The grey pictures of a clip, which a display matrix has turned."""
    import io

    import av

    turn = {"-display_rotation": lambda p: np.rot90(p, -1), "-display_hflip": lambda p: p[:, ::-1]}
    undo = turn.get(kind.copy[0] if kind.copy else "", lambda p: p)
    with av.open(io.BytesIO(data), "r") as container:
        return [undo(frame.to_ndarray(format="gray")) for frame in container.decode(video=0)]


def holds(clip: Clip, numbers: list[int], shown: list[int], plan: MediaPlan) -> None:
    measured_ = shown[clip.start_frame : clip.end_frame]
    assert len(numbers) == clip.frames
    assert numbers[0] == measured_[0]
    assert set(numbers) <= set(measured_), f"{set(numbers) - set(measured_)} were not measured"
    assert numbers == sorted(numbers)
    stride = clip.frames / len(measured_)
    off = [abs(number - measured_[0] - index / stride) for index, number in enumerate(numbers)]
    assert max(off) <= 1 + 4.5 / stride, "a frame is not at its place"
    assert clip.fps is not None and clip.fps <= plan.clips.max_fps + 1e-6


def covered(clips: list[Clip], shown: list[int], source: Source, breaks: int, unclean: int) -> None:
    """Clips do not overlap, cross no cut, and of each stretch without a break only a tail under the minimum is lost."""
    for before, after in itertools.pairwise(clips):
        assert before.end_frame <= after.start_frame
        assert before.end_s is not None
        assert before.end_s <= after.start_s, "two clips at one time"
        if before.ended_by is Ending.LENGTH and before.end_frame == after.start_frame:
            assert before.end_s == after.start_s, "a hole where none is"
    for clip in clips:
        inside = [cut for cut in source.cuts if shown[clip.start_frame] < cut <= shown[clip.end_frame - 1]]
        assert not inside, f"cut {inside} is inside a clip"
    assert {clip.ended_by for clip in clips} <= set(Ending)
    kept = sum(clip.end_frame - clip.start_frame for clip in clips)
    lost = (breaks + 1) * (LEAST + source.fps / 20) + len(clips) * source.fps / 30 + unclean
    assert kept >= len(shown) - lost, f"only {kept} of {len(shown)} frames came out"


def subsets(clips: list[Clip], seed: int) -> list[list[Clip]]:
    """All clips, one alone, and some in an order that jumps."""
    random_ = random.Random(seed + 1)
    alone, last = random_.choice(clips), clips[-1]
    some = random_.sample(clips, k=max(1, len(clips) // 2))
    return [clips, [alone, last], some] if len(clips) > 2 else [clips, [alone]]


@pytest.mark.parametrize("name", KINDS)
def test_clips_hold_exactly_the_measured_frames(name: str, tmp_path: Path) -> None:
    seed = sorted(KINDS).index(name)
    check(tmp_path / "source", KINDS[name], drawn(seed, KINDS[name]), seed)


@pytest.mark.parametrize("name", SPOILT)
def test_nothing_is_taken_that_is_predicted_from_what_is_not_there(name: str, tmp_path: Path) -> None:
    check_spoilt(tmp_path / "source", name, sorted(SPOILT).index(name))


def check_spoilt(path: Path, name: str, seed: int) -> None:
    """From a break on nothing is taken until a clean start, and of what is shown before that nothing."""
    source, one = Source(random.Random(seed).randint(175, 240), (), 25), SPOILT[name]
    made, shown = spoilt.write(path, one, source.total, (), seed)
    compare(made, one.kind, source, seed, shown, 2, one.apart + 4)


@pytest.mark.parametrize("fps", RATES)
def test_at_every_rate_with_cuts_off_the_stride(fps: float, tmp_path: Path) -> None:
    total = max(110, round(3 * fps))
    source = Source(total, (total * 3 // 10 | 1, total * 7 // 10 | 1), fps)
    check(tmp_path / "source", KINDS["mp4"], source, 0)


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_thousands_of_sources(tmp_path: Path) -> None:
    failed: dict[tuple[str, int], str] = {}
    for seed, name in itertools.product(range(1000, 1050), KINDS):
        try:
            check(tmp_path / "source", KINDS[name], drawn(seed, KINDS[name]), seed)
        except Exception as error:
            failed[name, seed] = f"{type(error).__name__}: {str(error)[:200]}"
    for seed, name in itertools.product(range(2000, 2050), SPOILT):
        try:
            check_spoilt(tmp_path / "source", name, seed)
        except Exception as error:
            failed[name, seed] = f"{type(error).__name__}: {str(error)[:200]}"
    assert not failed
