"""`ziggurat upkeep`: indexes built, small files merged, leftovers of killed runs removed."""

from __future__ import annotations

from datetime import timedelta

from curation.pyramid.lifecycle import upkeep as tidying
from curation.pyramid.lifecycle.upkeep import Upkept
from curation.pyramid.tiering.retier import opened


def upkeep(pyramid: str, keep_days: float) -> Upkept:
    """Tidy a pyramid up, and keep older versions so many days; what was done."""
    return tidying.upkeep(opened(pyramid), timedelta(days=keep_days))
