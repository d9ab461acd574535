"""Making a sample filter from plain settings, and trying one out before a run: in a process of the interpreter that
will run it, on one small frame, within a bounded time.

It comes before the first video, where the filter will run. A wrong option, a package or a file that is missing, an
environment that Ray would wait for in silence: each is one line here, and would be a fault of every clip later. The
process is there because the interpreter may be another one, because weights must not stay in the driver's memory, and
because what crashes must not take the driver with it.

`make` runs in environments that hold little (PaddleOCR's own): numpy, pydantic, and the filter's needs.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation import interpreters
from curation.errors import UserError
from curation.filters.base import SampleFilter
from curation.filters.table import filter_of
from curation.interpreters import WITHIN_S

GET = "for PaddleOCR: `make env-paddle`"
"""What makes an environment, in messages."""

CUSTOM = "custom"
"""What `settings` call a filter of a user's own."""

_CLIP = (3, 360, 640, 3)
"""A clip as a filter sees it: of three pictures, of noise here, that differ."""

_ROOT = Path(__file__).resolve().parents[2]
_START = "import sys; sys.path.append(sys.argv[1]); from curation.filters import trial; trial.main(sys.argv[2])"
"""Appended, so that the other environment's packages come before those that lie beside ours."""


@dataclass(frozen=True, slots=True)
class MakeFilter:
    """Makes a filter in its worker. `settings`: see `make`, as JSON, so that it can be sent anywhere."""

    settings: str

    def __call__(self) -> SampleFilter:
        return make(json.loads(self.settings))


def make(settings: Mapping[str, Any]) -> SampleFilter:
    """The filter that `settings` describe: `filter` is `CUSTOM` or a name of the table, the rest is for its maker.

    Raises `UserError` where something that it needs is not there.
    """
    options = {key: value for key, value in settings.items() if key != "filter"}
    if settings["filter"] == CUSTOM:
        from curation.filters.custom import Custom

        return Custom(**options)
    from curation.filters.section import section_of

    return section_of(filter_of(settings["filter"])).make(**options)


def named(settings: Mapping[str, Any]) -> str:
    """What a person knows the filter of `settings` by."""
    return str(settings["name"] if settings["filter"] == CUSTOM else settings["filter"])


@functools.lru_cache(maxsize=16)
def try_out(settings: str, python: str | None = None, within_s: float = WITHIN_S) -> str:
    """Make the filter of `settings` (JSON, see `make`) in `python` (None: ours) and measure a frame; says what held.

    Raises `UserError` with the cause. What went well once is not tried again in this process.
    """
    name = named(json.loads(settings))
    if python is not None:
        interpreters.check(python, GET, within_s)
    command = [python or sys.executable, "-c", _START, str(_ROOT), settings]
    return f"{interpreters.answer(command, f'the {name} filter', within_s)['by']} measured a frame"


def main(settings: str) -> None:
    """What `try_out` starts: makes the filter, measures, and writes one JSON line, `by` or `cause` and `remedy`."""
    print(json.dumps(_answer(json.loads(settings))), flush=True)


def _answer(settings: Mapping[str, Any]) -> dict[str, str]:
    try:
        import numpy as np

        made = make(settings)
        made.measure([list(np.random.default_rng(0).integers(0, 256, _CLIP, np.uint8))])
    except UserError as error:
        return {"cause": error.cause, "remedy": error.remedy}
    except Exception as error:  # whatever a package raises when it is not as it should be
        said = " ".join(str(error).split())[:200]
        return {
            "cause": f"the {named(settings)} filter cannot start: {type(error).__name__}: {said}",
            "remedy": "see `ziggurat doctor`",
        }
    return {"by": made.fingerprint}
