"""Damaged files give as many clips with their sound as without it, and what sound there is fits its pictures."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from curation.contract import Clip
from curation.media.plan import ClipPlan, Encode, Limits, ShotPlan
from curation.media.sandbox.sandbox import Sandbox
from tests.support import flashes
from tests.support.damage import damaged
from tests.support.measuring import LENIENT, as_clips

PLAN = replace(
    LENIENT,
    rules=replace(LENIENT.rules, min_duration_s=1.0),
    shots=ShotPlan("none"),
    clips=ClipPlan(min_s=0.5, max_s=2),
)
LIMITS = Limits(silence_s=30, wall_s=120, cpu_s=60, memory_mb=2048)
BASES: dict[str, dict[str, Any]] = {
    "aac.mp4": {},
    "opus.mkv": {"acodec": "libopus"},
    "ac3.ts": {"acodec": "ac3", "layout": "5.1"},
    "aac.flv": {"rate": 44100},
    "pcm.mov": {"acodec": "pcm_s16le"},
    "mp3.avi": {"vcodec": "mpeg4", "acodec": "libmp3lame"},
    "vorbis.mkv": {"acodec": "libvorbis"},
    "flac.mkv": {"acodec": "flac"},
    "mp2.mpg": {"vcodec": "mpeg2video", "acodec": "mp2"},
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    return [flashes.write(folder / name, seconds=4, **options) for name, options in BASES.items()]


def run(bases: list[Path], folder: Path, seeds: range) -> int:
    """Cut what damaged files give with and without sound; how many clips had some."""
    sounding = 0
    with Sandbox(LIMITS) as sandbox:
        for seed in seeds:
            random_ = random.Random(seed)
            base, other = random_.choice(bases), random_.choice(bases)
            way, data = damaged(base.read_bytes(), other.read_bytes(), random_)
            file = folder / f"{seed}{base.suffix}"
            file.write_bytes(data)
            found = sandbox.measure(file, file.name, PLAN)
            for clip in as_clips(found) if found.verdict is None else []:  # pyright: ignore[reportArgumentType]
                sounding += _is_whole(sandbox, file, clip, f"seed {seed}, {way} of {base.name}")
            file.unlink()
    return sounding


def _is_whole(sandbox: Sandbox, file: Path, clip: Clip, what: str) -> bool:
    """Whether the clip has sound; it must be made, and fit."""
    plain, made = (
        sandbox.cut(file, file.name, [clip], PLAN, Encode(preset="ultrafast", sound=sound)) for sound in ("drop", "aac")
    )
    assert made.verdict == plain.verdict, what
    heard = flashes.heard(made.media[0][1]) if made.media else None
    if heard is None:
        return False
    assert heard.frames == clip.frames, what
    assert heard.sound.shape[1] == round(heard.seconds * heard.rate), what
    return True


def test_damage_of_the_sound_costs_no_clip(bases: list[Path], tmp_path: Path) -> None:
    assert run(bases, tmp_path, range(12)) > 5


@pytest.mark.slow
def test_damage_of_the_sound_costs_no_clip_in_a_thousand(bases: list[Path], tmp_path: Path) -> None:
    assert run(bases, tmp_path, range(1000, 2000)) > 500
