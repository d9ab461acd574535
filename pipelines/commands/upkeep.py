"""`ziggurat upkeep`: indexes built, small files merged, leftovers of killed runs removed."""

from __future__ import annotations

from datetime import timedelta

from curation.pyramid import upkeep as tidying
from curation.pyramid.retier import opened
from curation.pyramid.upkeep import Upkept


def upkeep(pyramid: str, keep_days: float) -> Upkept:
    """Tidy a pyramid up, and keep older versions so many days; what was done."""
    return tidying.upkeep(opened(pyramid), timedelta(days=keep_days))
