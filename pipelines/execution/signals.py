"""How a command ends on a signal: one line at once, exit code 130 or 143, and no stack trace whatever it was doing.

The first SIGINT or SIGTERM is answered on standard error by the handler itself. From then on nothing else is let out
there: libraries, threads and finalizers that are interrupted like to print where. The command unwinds with what it has
finished committed; a second signal, or `GRACE_S` without an end, ends the process on the spot, which costs no more than
a kill does: what workers have finished is in the pyramid's journal.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pipelines import logs

GRACE_S = 30.0
_WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}
_CLEAR_LINE, _SHOW_CURSOR = b"\r\x1b[K", b"\x1b[?25h"


class Ending:
    """What the handler has seen: `code` is 0 until a signal came, then 128 and its number. `failed`: the work that it
    let go on to its end (`held`) did not get there, which is what the command ends with."""

    def __init__(self, hint: str = "") -> None:
        self.code = 0
        self.held = False
        self.failed = False
        self.grace_s = GRACE_S
        self._hint = hint
        self._stderr = os.dup(2)

    def __call__(self, number: int, frame: FrameType | None = None) -> None:
        """The handler. Raises KeyboardInterrupt in the main thread, but for a block of `held`."""
        if self.code:
            os._exit(self.code)
        self.code = 128 + number
        self._say(_WORDS[signal.Signals(number)] + (f"; {self._hint}" if self._hint else ""))
        hush()
        bound = threading.Timer(self.grace_s, os._exit, (self.code,))
        bound.daemon = True
        bound.start()
        self._bound = bound
        if not self.held:
            raise KeyboardInterrupt

    def _say(self, words: str) -> None:
        # To the descriptor itself: the main thread may be in the midst of a write to sys.stderr.
        on_screen = os.isatty(self._stderr)
        start = _CLEAR_LINE + _SHOW_CURSOR if on_screen else b""
        told = logs.line("WARNING", logs.SPOKEN, words) if logs.is_json() else f"ziggurat: {words}"
        os.write(self._stderr, start + f"{told}\n".encode())

    def speak(self) -> None:
        """Let standard error speak again."""
        os.dup2(self._stderr, 2)

    def close(self) -> None:
        """Let standard error speak again, and the process live on."""
        if self.code:
            self._bound.cancel()
            self.speak()
        os.close(self._stderr)


@contextmanager
def handled(hint: str = "", last: bool = False) -> Iterator[Ending]:
    """Answer SIGINT and SIGTERM in this block; `hint` follows the word. A signal that is ignored stays so (nohup).

    Only the main thread can: in another one the block changes nothing. `last`: the process ends after the block, so
    once a signal has come, a further one is answered to the end.
    """
    ending = Ending(hint)
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _WORDS}
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, ending)
        yield ending
    finally:
        if not (last and ending.code):
            for number, handler in before.items():
                signal.signal(number, handler)
            ending.close()


@contextmanager
def held(grace_s: float = GRACE_S, saves: bool = False) -> Iterator[None]:
    """Let a signal that comes in this block interrupt at its end: for a library's call that must not be torn.

    The line is written at once all the same, and `grace_s` and a second signal end the process as ever. `saves`: the
    block saves its work after the signal, so an error by which it ends is told, and the command ends with it. Without
    that an error after a signal is taken for a part of the interruption.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = {number: handler for number in _WORDS if (handler := signal.getsignal(number)) is not None}
    endings = [handler for handler in handlers.values() if isinstance(handler, Ending)]
    for ending in endings:
        ending.held, ending.grace_s = True, grace_s
    try:
        yield
    except Exception:
        _release(handlers)
        if not any(ending.code for ending in endings):
            raise
        if not saves:
            raise KeyboardInterrupt from None
        for ending in endings:
            ending.failed = True
            ending.speak()
        raise
    except BaseException:
        _release(handlers)
        raise
    else:
        _release(handlers)
        if any(ending.code for ending in endings):
            raise KeyboardInterrupt


def _release(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)  # Ray's core puts one below Python's that prints its stack
        if isinstance(handler, Ending):
            handler.held, handler.grace_s = False, GRACE_S


def hush() -> None:
    """Let nothing more out on standard error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def came() -> bool:
    """Whether a signal has come in the block that is being handled."""
    return code() != 0


def code() -> int:
    """The exit code that the signal asks for which has come in the block that is being handled; 0 where none has."""
    return next((ending.code for ending in _endings()), 0)


def failed() -> bool:
    """Whether the work that such a signal let go on to its end did not get there: what the command ends with then."""
    return any(ending.failed for ending in _endings())


def _endings() -> Iterator[Ending]:
    handlers = (signal.getsignal(number) for number in _WORDS)
    return (handler for handler in handlers if isinstance(handler, Ending))
