"""The options of each shot detector, as a recipe's `[shots.options]` names them: their types, bounds and defaults.

`table` reads them where a recipe is loaded, so that a wrong one is told before the first video, and again where a
detector is made. Nothing here imports a detector.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ConfigDict, Field, ValidationError

from curation.exact import Exact


class Options(Exact):
    """One detector's options."""

    model_config = ConfigDict(allow_inf_nan=False)


class SceneOptions(Options):
    """See `scene_rule.SceneRule`."""

    threshold: float = Field(default=6.0, gt=0, le=100)
    """By how much a cut stands out from what is around it, in units of the scene score."""
    radius: int = Field(default=6, ge=2, le=24)
    """Frames on each side that a cut is compared with."""


class AdaptiveOptions(Options):
    """See `scenedetect.adaptive`."""

    threshold: float = Field(default=3.0, gt=0)
    """How many times its neighbourhood's mean a frame's content value is at a cut."""
    min_content: float = Field(default=15.0, ge=0, le=255)
    """The content value that a cut has at least."""
    window: int = Field(default=2, ge=1, le=24)
    """Frames on each side that the mean is taken of."""
    min_shot: int = Field(default=15, ge=1, le=48)
    """Frames of the shortest shot."""


class ContentOptions(Options):
    """See `scenedetect.content`."""

    threshold: float = Field(default=27.0, gt=0, le=255)
    """The content value of a cut."""
    min_shot: int = Field(default=15, ge=1, le=48)
    """Frames of the shortest shot."""


class TransNetOptions(Options):
    """See `transnet.TransNetShots`."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    """The network's output from which on a frame belongs to a transition."""


class NoOptions(Options):
    """See `whole.WholeSource`."""


OPTIONS: Mapping[str, type[Options]] = {
    "scene": SceneOptions,
    "adaptive": AdaptiveOptions,
    "content": ContentOptions,
    "transnet": TransNetOptions,
    "none": NoOptions,
}
"""Every detector's options by the name of the detector."""


def read(detector: str, options: Mapping[str, object]) -> Options:
    """The options of a detector, checked; a `ValueError` says in one line which is wrong and what is allowed."""
    kind = OPTIONS[detector]
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        key = ".".join(map(str, found["loc"]))
        if found["type"] == "extra_forbidden":
            allowed = ", ".join(kind.model_fields) or "none"
            raise ValueError(f"{key}: no such option of {detector!r}; allowed are {allowed}") from None
        message = found["msg"]
        raise ValueError(f"{key} = {found['input']!r}: {message[0].lower()}{message[1:]}") from None
