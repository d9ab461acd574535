"""How a request over HTTP may fail, and when it is tried again."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from curation.caption.cleaning import plain
from curation.pyramid.history.failures import NoCaption, failure

TRIES = 6
"""How often a request is sent that fails for what may pass: with doubling pauses, half a minute in all."""

LONGEST_S = 300.0
"""The longest time that a server may have us wait; where it names a longer one, the clip is left to another run."""

BEAT_S = 5.0
"""How long whoever waits for answers hears nothing at most."""

_FIRST_S = 1.0


class Failed(Exception):
    """A request that another try may help. `why`: as `caption_why` says it; `may_cost`: the server may have worked on
    it; `retry_after`: seconds that it asks for.
    """

    def __init__(self, why: str, may_cost: bool, retry_after: float | None = None) -> None:
        super().__init__(why)
        self.why, self.may_cost, self.retry_after = why, may_cost, retry_after


class Refused(Exception):
    """A request that the server does not take, now or later."""

    def __init__(self, told: str) -> None:
        self.why = failure(NoCaption.REFUSED, told)
        super().__init__(self.why)


def pause_s(tried: int, asked: float | None) -> float | None:
    """Seconds before the next try, after `tried` + 1 of them; None where the server asks for too long a time."""
    if asked is not None and asked > LONGEST_S:
        return None
    return max(asked or 0.0, _FIRST_S * 2**tried * random.uniform(0.5, 1.0))


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds that a server asks for by `Retry-After`: a number of them, or a date."""
    said = (headers.get("retry-after") or "").strip()
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def without_key(text: str, key: str | None) -> str:
    """What a server said, on one line and cut to its beginning, without the key that it may repeat."""
    return " ".join(plain(struck(text, key)).split())[:200]


def struck(text: str, key: str | None, mark: str = "***") -> str:
    """A text with a mark in the place of the key."""
    return text.replace(key, mark) if key else text
