"""How a command ends on a signal: one line at once, exit code 130 or 143, and no stack trace whatever it was doing.

The first SIGINT or SIGTERM is answered on standard error by the handler itself. From then on nothing else is let out
there: libraries, threads and finalizers that are interrupted like to print where. The command unwinds with what it has
finished committed; a second signal, or `GRACE_S` without an end, ends the process on the spot, which costs no more than
a kill does: what workers have finished is in the pyramid's journal.

Python runs a handler in the main thread, and there only once native code returns; Ray's start waits in such code for
minutes. So a thread of its own (`_Listener`) is told of each signal, and gives the same answer without the main thread.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from pipelines import logs

GRACE_S = 30.0
SAME_S = 0.3
"""What comes within this after the first is the same signal: `timeout` sends it to the process and to its group."""

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
        self._came_at = 0.0
        self._is_handled = False
        self._first = threading.Lock()
        self._bound: threading.Timer | None = None

    def __call__(self, number: int, frame: FrameType | None = None) -> None:
        """The handler. Raises KeyboardInterrupt in the main thread, but for a block of `held`."""
        if self._is_handled:
            self.end_if_again()
            return
        self._is_handled = True
        self.answer(number)
        hush()  # where the listener has answered, this thread may have been about to let it speak again
        if not self.held:
            raise KeyboardInterrupt

    def answer(self, number: int) -> None:
        """Say the line and bound what follows. Once, from whichever thread is first."""
        self._came_at = self._came_at or time.monotonic()
        self.code = self.code or 128 + number
        if not self._first.acquire(blocking=False):
            return
        self._say(_WORDS[signal.Signals(number)] + (f"; {self._hint}" if self._hint else ""))
        hush()
        self._bound = threading.Timer(self.grace_s, os._exit, (self.code,))
        self._bound.daemon = True
        self._bound.start()

    def end_if_again(self) -> None:
        """End the process on the spot, unless this is still the first signal."""
        if time.monotonic() - self._came_at >= SAME_S:
            os._exit(self.code)

    def _say(self, words: str) -> None:
        # To the descriptor itself: the main thread may be in the midst of a write to sys.stderr.
        on_screen = os.isatty(self._stderr)
        start = _CLEAR_LINE + _SHOW_CURSOR if on_screen else b""
        told = logs.line("WARNING", logs.SPOKEN, words) if logs.is_json() else f"ziggurat: {words}"
        os.write(self._stderr, start + f"{told}\n".encode())

    def tell(self, line: str) -> None:
        """A line on standard error, whoever keeps it quiet just now; nothing after a signal."""
        if not self.code:
            told = logs.line("INFO", logs.SPOKEN, line) if logs.is_json() else line
            os.write(self._stderr, f"{told}\n".encode(errors="backslashreplace"))

    def speak(self) -> None:
        """Let standard error speak again."""
        os.dup2(self._stderr, 2)

    def close(self) -> None:
        """Let standard error speak again, and the process live on."""
        if self._bound is not None:
            self._bound.cancel()
        if self.code:
            self.speak()
        os.close(self._stderr)


class _Listener:
    """Has `ending` answer its signals while the main thread cannot. Made and closed in the main thread."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def close(self) -> None:
        signal.set_wakeup_fd(self._before)
        os.close(self._write)  # which ends the thread

    def _listen(self) -> None:
        is_first = True
        while numbers := os.read(self._read, 64):
            mine = [number for number in numbers if number in _WORDS and signal.getsignal(number) is self._ending]
            if mine and is_first:
                self._ending.answer(mine[0])
                is_first = False
            elif mine:
                self._ending.end_if_again()
        os.close(self._read)


@contextmanager
def handled(hint: str = "", last: bool = False) -> Iterator[Ending]:
    """Answer SIGINT and SIGTERM in this block; `hint` follows the word. A signal that is ignored stays so (nohup).

    Only the main thread can: in another one the block changes nothing. `last`: the process ends after the block, so
    once a signal has come, a further one is answered to the end.
    """
    ending = Ending(hint)
    before: dict[signal.Signals, Any] = {}
    listener = None
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in _WORDS}
        listener = _Listener(ending)
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, ending)
        yield ending
    finally:
        if not (last and ending.code):
            for number, handler in before.items():
                signal.signal(number, handler)
            if listener is not None:
                listener.close()
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


def tell(line: str) -> None:
    """A line on standard error, past a block that keeps libraries quiet there; nothing after a signal. It is for what
    takes its time in such a block, from a thread."""
    ending = next(_endings(), None)
    if ending is not None:
        ending.tell(line)
    else:
        print(line, file=sys.stderr, flush=True)


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
