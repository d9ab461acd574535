"""Structured logs: everything on standard error as JSON, one object a line. Off unless asked for.

    --log-format json, or ZIGGURAT_LOG_FORMAT=json -> [configure] -> a handler of the root logger, lines of stderr

An object has `time` (UTC), `level`, `logger` and `message`, and where they are known `run`, `stage`, `video`, `clip`.
Standard output is not touched. What native libraries write to the descriptor itself stays as it is.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

from curation.errors import UserError

VARIABLE = "ZIGGURAT_LOG_FORMAT"
TEXT, JSON = "text", "json"
OURS = ("curation", "pipelines", "training")
SPOKEN = "ziggurat"
"""The logger of lines that are meant for a person."""

_STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}
_bound: ContextVar[Mapping[str, Any] | None] = ContextVar("bound", default=None)
_of_process: dict[str, Any] = {}
_is_json = False


def configure(wanted: str | None) -> None:
    """Log as `wanted` says from now on: "json", "text"; None changes nothing. Workers that are started inherit it."""
    global _is_json
    if wanted not in (None, "", TEXT, JSON):
        raise UserError(f"{wanted!r} is no format of logs", f"say {TEXT} or {JSON} (--log-format, {VARIABLE})")
    if wanted != JSON or _is_json:
        return
    _is_json, os.environ[VARIABLE] = True, JSON
    out = sys.stderr
    handler = logging.StreamHandler(out)
    handler.setFormatter(Formatter())
    logging.getLogger().addHandler(handler)
    for name in (*OURS, SPOKEN):
        logging.getLogger(name).setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.stderr = Spoken(out)
    sys.excepthook = _unexpected


def is_json() -> bool:
    return _is_json


class Formatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in record.__dict__.items() if name not in _STANDARD}
        if record.exc_info:
            extra["error"] = self.formatException(record.exc_info)
        return line(record.levelname, record.name, record.getMessage(), record.created, **extra)


def line(level: str, logger: str, message: str, at: float | None = None, **extra: Any) -> str:
    """One line of the log. `at`: Unix time in seconds, None for now."""
    moment = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    told = {"time": moment.isoformat(timespec="milliseconds"), "level": level, "logger": logger, "message": message}
    return json.dumps({**told, **_of_process, **(_bound.get() or {}), **extra}, default=str)


class Spoken(io.TextIOBase):
    """Standard error for whoever writes lines to it: each becomes one object. It is no terminal."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._begun = out, ""

    def write(self, text: str) -> int:
        *lines, self._begun = (self._begun + text).split("\n")
        for one in filter(str.strip, lines):
            is_end = one.startswith(f"{SPOKEN}: ")  # how a command says why it ends
            self._out.write(line("ERROR" if is_end else "INFO", SPOKEN, one.removeprefix(f"{SPOKEN}: ")) + "\n")
        return len(text)

    def flush(self) -> None:
        self._out.flush()

    def fileno(self) -> int:
        return self._out.fileno()

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True


def of_process(**fields: Any) -> None:
    """Put these into every line of this process from now on; None takes one away."""
    for name, value in fields.items():
        if value is None:
            _of_process.pop(name, None)
        else:
            _of_process[name] = value


@contextmanager
def bound(**fields: Any) -> Iterator[None]:
    """Put these into every line of this thread while the block lasts."""
    before = _bound.get()
    _bound.set({**(before or {}), **{name: value for name, value in fields.items() if value is not None}})
    try:
        yield
    finally:
        _bound.set(before)


def _unexpected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger(SPOKEN).critical("an error of Ziggurat", exc_info=(kind, error, trace))
