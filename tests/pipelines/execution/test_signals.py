"""Signals while the main thread is in native code, where Python runs no handler: as ever one line, and an end."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pipelines.execution import signals

BOUND_S = 120.0
"""After which a process that no signal ends is killed, and its test fails."""

NATIVE = """
import ctypes, sys
from pipelines.execution import signals
signals.GRACE_S = float(sys.argv[1])
mutex = ctypes.create_string_buffer(256)
lock = ctypes.CDLL(None).pthread_mutex_lock
lock(mutex)
with signals.handled("the hint"), signals.held(signals.GRACE_S):
    print("there", flush=True)
    lock(mutex)  # for ever, and no signal ends it
"""


@contextmanager
def in_native_code(grace_s: float) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", NATIVE, str(grace_s)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a runner may have it ignored
    )
    bound = threading.Timer(BOUND_S, process.kill)
    bound.start()
    try:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        yield process
    finally:
        bound.cancel()
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("number", "line"),
    [(signal.SIGINT, "ziggurat: interrupted; the hint\n"), (signal.SIGTERM, "ziggurat: terminated; the hint\n")],
)
def test_a_signal_in_native_code_is_one_line_at_once_and_a_second_one_ends_it(
    number: signal.Signals, line: str
) -> None:
    with in_native_code(600) as process:
        process.send_signal(number)
        assert process.stderr is not None and process.stderr.readline() == line
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2 * signals.SAME_S)
        process.send_signal(number)
        assert (process.wait(), process.stderr.read()) == (128 + number, "")


def test_a_signal_in_native_code_ends_it_when_its_grace_is_over() -> None:
    with in_native_code(0.2) as process:
        process.send_signal(signal.SIGTERM)
        assert process.communicate()[1] == "ziggurat: terminated; the hint\n"
        assert process.returncode == 143


def test_a_signal_that_comes_twice_at_once_is_one() -> None:
    """`timeout` sends it to the process and to its group."""
    with signals.handled() as ending:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.1)  # for the listener, which would end this process
    assert ending.code == 143


def test_what_another_handler_takes_over_is_its_own() -> None:
    """A server that ends by itself and then gives the signal back."""
    seen = list[int]()
    with signals.handled() as ending:
        ours = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert (seen, ending.code) == ([signal.SIGTERM], 0)
        signal.signal(signal.SIGTERM, ours)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert ending.code == 143


def test_a_line_is_told_past_what_keeps_standard_error_quiet_and_none_after_a_signal(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with signals.handled():
        signals.hush()
        signals.tell("still at it")
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signals.tell("too late")
    assert capfd.readouterr().err == "still at it\nziggurat: terminated\n"
