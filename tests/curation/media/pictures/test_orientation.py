"""All eight ways in which a display matrix turns a picture: clips hold what ffmpeg shows, pixel by pixel."""

from __future__ import annotations

import io
import subprocess
from dataclasses import replace
from itertools import product
from pathlib import Path

import av
import imageio_ffmpeg
import numpy as np
import pytest

from curation.media.plan import Encode
from tests.support import light
from tests.support.light import BT709, X264, to_yuv
from tests.support.measuring import LENIENT, as_clips, cuts, measured

SIZE = (192, 112)
PLAN = replace(
    LENIENT,
    rules=replace(LENIENT.rules, min_duration_s=0.0),
    clips=replace(LENIENT.clips, min_s=0.2, remove_borders=False),
)
GOOD = Encode(preset="veryfast", crf=2)
TEN_BITS = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "4", "-pix_fmt", "yuv422p10le")

FORMS = {"8 bits": X264, "4:2:2 10 bits": TEN_BITS}
TURNS = [(form, "mp4", degrees, mirror) for form, degrees, mirror in product(FORMS, (0, 90, 180, 270), (False, True))]
TURNS += [("8 bits", "mkv", degrees, False) for degrees in (0, 90, 180, 270)]  # Matroska has no word for a mirror
TURNS += [("8 bits", "mov", 90, True), ("8 bits", "mov", 270, False)]


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Films of which no two of the eight views are alike."""
    folder, pictures = tmp_path_factory.mktemp("upright"), light.patches(8, *SIZE)
    return {
        form: light.write(folder / f"{number}.mp4", pictures, *options, *BT709, vf=to_yuv())
        for number, (form, options) in enumerate(FORMS.items())
    }


def ffmpeg(*arguments: str) -> bytes:
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", *arguments]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.parametrize(("form", "kind", "degrees", "mirror"), TURNS)
def test_clips_are_upright_as_a_player_shows_them(
    form: str, kind: str, degrees: int, mirror: bool, films: dict[str, Path], tmp_path: Path
) -> None:
    path = tmp_path / f"a.{kind}"
    matrix = ["-display_rotation", str(degrees), *(["-display_hflip"] if mirror else [])]
    ffmpeg(*matrix, "-i", str(films[form]), "-c", "copy", str(path))
    width, height = SIZE[::-1] if degrees % 180 else SIZE
    shown = ffmpeg("-i", str(path), "-f", "rawvideo", "-pix_fmt", "yuv420p", "-")  # turned by its matrix
    right = np.frombuffer(shown, np.uint8).reshape(8, height * 3 // 2, width)
    result = measured(path, PLAN)
    assert (result.facts.width, result.facts.height) == (width, height)
    ((data,), _) = cuts(path, as_clips(result), PLAN, GOOD)
    with av.open(io.BytesIO(data), "r") as container:
        made = np.stack([frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)])
    assert made.shape == right.shape
    off = np.abs(made.astype(int) - right)
    assert off.mean() < 1.5, f"{off.mean()}"
    assert np.percentile(off, 99) <= 8
