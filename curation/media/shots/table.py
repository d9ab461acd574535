"""The shot detectors by name, and the ways to one: `check` for the driver, `prepare` and `make` where it works.

`docs/shots.md` has the measured quality of each detector; `python -m bench.shots` makes it again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.media.shots.base import DetectorMissingError, ShotDetector
from curation.media.shots.options import Options, read

_TRY_S = 180.0
_REINSTALL = "reinstall its packages, or choose the detector 'scene'"


def _scene(options: Any, fps: float) -> ShotDetector:
    from curation.media.shots.scene_rule import SceneRule

    return SceneRule(options.threshold, options.radius, fps)


def _adaptive(options: Any, fps: float) -> ShotDetector:
    from curation.media.shots.scenedetect import adaptive

    return adaptive(**options.model_dump())


def _content(options: Any, fps: float) -> ShotDetector:
    from curation.media.shots.scenedetect import content

    return content(**options.model_dump())


def _transnet(options: Any, fps: float) -> ShotDetector:
    from curation.media.shots.transnet import TransNetShots

    return TransNetShots(options.threshold)


def _none(options: Any, fps: float) -> ShotDetector:
    from curation.media.shots.whole import WholeSource

    return WholeSource()


DETECTORS: Mapping[str, Callable[[Any, float], ShotDetector]] = {
    "scene": _scene,
    "adaptive": _adaptive,
    "content": _content,
    "transnet": _transnet,
    "none": _none,
}
"""Every detector by the name that a recipe uses; `make` is the way to one."""
SEEKING = tuple(name for name in DETECTORS if name != "none")
"""Those that look for boundaries."""


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
        from curation.media.shots.transnet import warm

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
        "import sys; from curation.errors import UserError; from curation.media.shots.table import prepare\n"
        "try: prepare(sys.argv[1])\n"
        "except UserError as error: sys.exit(f'{error.cause}\\n{error.remedy}')"
    )
    root = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    command = [sys.executable, "-P", "-c", code, detector]
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
