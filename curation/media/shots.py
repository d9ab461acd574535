"""Where shots end: the streaming protocol, and the ways to a detector: `check`, `prepare` and `make`.

Second step of the measuring pass: it is fed one frame at a time, in decode order, with that frame's scores
(`scene.py`) and, for a detector that asks for it, a small picture. It answers with boundaries, never later than
`lookahead` frames after them, so that the pass can close a shot without holding the video. `docs/shots.md` has the
measured quality of each detector; `python -m bench.shots` makes it again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from curation.errors import UserError
from curation.media.scene import FrameScore
from curation.media.shots_options import Options, read

Picture = np.ndarray
"""uint8, shape (height, width, 3), BGR."""

_TRY_S = 180.0
_REINSTALL = "reinstall its packages, or choose the detector 'scene'"


@dataclass(frozen=True, slots=True)
class Boundary:
    """Between two shots, in 0-based frames of decode order.

    The shot before ends before `end` (exclusive), the shot after begins with `start`. A hard cut has
    `end == start`; in a dissolve or a fade the frames `end..start-1` are mixed and belong to no shot. A video
    that begins or ends in a fade may have `end` 0 or `start` at the number of frames: an empty shot there.
    """

    end: int
    start: int


class DetectorMissingError(UserError):
    """The package behind a detector is not installed."""


@runtime_checkable
class ShotDetector(Protocol):
    """Finds the boundaries of one video. One object serves one video."""

    @property
    def lookahead(self) -> int:
        """The most frames between a boundary's `end` and the frame whose `push` announces it."""
        ...

    @property
    def wants_picture(self) -> tuple[int, int] | None:
        """Width and height of the BGR picture that `push` needs; None: none; height 0 keeps the aspect."""
        ...

    def push(self, frame: FrameScore, picture: Picture | None) -> list[Boundary]:
        """Takes the next frame; gives the boundaries that are certain now, in order, no two touching."""
        ...

    def finish(self) -> list[Boundary]:
        """Says that no frame follows; gives the boundaries that were still open."""
        ...


def _scene(options: Any, fps: float) -> ShotDetector:
    from curation.media.shots_scene import SceneRule

    return SceneRule(options.threshold, options.radius, fps)


def _adaptive(options: Any, fps: float) -> ShotDetector:
    from curation.media.shots_scenedetect import adaptive

    return adaptive(**options.model_dump())


def _content(options: Any, fps: float) -> ShotDetector:
    from curation.media.shots_scenedetect import content

    return content(**options.model_dump())


def _transnet(options: Any, fps: float) -> ShotDetector:
    from curation.media.shots_transnet import TransNetShots

    return TransNetShots(options.threshold)


DETECTORS: Mapping[str, Callable[[Any, float], ShotDetector]] = {
    "scene": _scene,
    "adaptive": _adaptive,
    "content": _content,
    "transnet": _transnet,
}
"""Every detector by the name that a recipe uses; `make` is the way to one."""


def make(detector: str, options: Mapping[str, object] | None = None, fps: float = 25.0) -> ShotDetector:
    """A detector for one video of `fps` frames a second.

    Raises `UserError` for a name or an option that does not exist, `DetectorMissingError` where its package is not
    installed.
    """
    return DETECTORS[known(detector)](_read(detector, options or {}), fps)


def check(detector: str, options: Mapping[str, object]) -> None:
    """Raise the `UserError` that every video would meet with this detector: names, values, packages, weights.

    For the driver, before the first video. A detector that needs torch is tried in another process, so that the driver
    does not load it.
    """
    _read(known(detector), options)
    if detector == "transnet":
        _try_elsewhere(detector)
    else:
        make(detector, options)


def prepare(detector: str) -> None:
    """Load all that a detector needs, so that `make` and the detector then need no file, thread or package more.

    For the decoder's process, before it gives up its reach; keeps the process at one thread. Raises
    `DetectorMissingError`.
    """
    if known(detector) == "transnet":
        from curation.media.shots_transnet import warm

        warm()
    else:
        make(detector)


def known(detector: str) -> str:
    """The name, if there is such a detector."""
    if detector not in DETECTORS:
        raise UserError(f"no shot detector {detector!r}", f"one of {', '.join(DETECTORS)} is allowed")
    return detector


def _read(detector: str, options: Mapping[str, object]) -> Options:
    try:
        return read(detector, options)
    except ValueError as error:
        raise UserError(f"shots.options.{error}", "mend the recipe") from None


def _try_elsewhere(detector: str) -> None:
    """`prepare` in a fresh interpreter; its last line says what is wrong."""
    # The child prints errors with their cause and remedy on two lines, so that both can be told again.
    code = (
        "import sys; from curation.errors import UserError; from curation.media.shots import prepare\n"
        "try: prepare(sys.argv[1])\n"
        "except UserError as error: sys.exit(f'{error.cause}\\n{error.remedy}')"
    )
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    command = [sys.executable, "-c", code, detector]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=_TRY_S)
    except subprocess.TimeoutExpired:
        raise DetectorMissingError(
            f"the shot detector {detector!r} did not load in {_TRY_S:.0f} s", "try `ziggurat doctor`"
        ) from None
    if done.returncode:
        *_, cause, remedy = ["", "", *done.stderr.strip().splitlines()]
        if "Traceback" in done.stderr:
            cause, remedy = f"the shot detector {detector!r} does not load ({remedy})", _REINSTALL
        raise DetectorMissingError(cause, remedy)
