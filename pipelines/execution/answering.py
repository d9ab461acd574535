"""Whether a Ray cluster answers, in bounded time: asked before `cluster` joins it.

Ray itself waits for more than a minute for an address where nobody is, in native code that no thread and no signal can
end. So a process of its own tries to join first, and is ended when it takes too long.
"""

from __future__ import annotations

import selectors
import socket
import subprocess
import sys
import time

from curation.errors import UserError

BOUND_S = 30.0
"""How long a cluster may take to answer; loading Ray in the process that asks does not count."""

_LOADING_S = 120.0
_CONNECT_S = 10.0
_CLIENT = "ray://"
_ASK = """
import logging, sys, ray
print("loaded", flush=True)
try:
    ray.init(sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
except Exception as error:
    print((str(error).splitlines() or [type(error).__name__])[0], flush=True)
else:
    print("joined", flush=True)
"""


def check(address: str) -> None:
    """Return when the cluster at `address` ("HOST:PORT", "ray://HOST:PORT", "auto") can be joined from this machine.

    Raises `UserError` with what stands in the way, `BOUND_S` after the first question at the latest.
    """
    started = time.monotonic()
    if (place := _place(address)) is not None:
        _connect(address, place)
    _join(address, started)


def _place(address: str) -> tuple[str, int] | None:
    """Host and port, None for "auto"."""
    if address == "auto":
        return None
    host, _, port = address.removeprefix(_CLIENT).rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UserError(f"{address!r} is no address of a Ray cluster", 'give HOST:PORT, ray://HOST:PORT or "auto"')
    return host, int(port)


def _connect(address: str, place: tuple[str, int]) -> None:
    """Most wrong addresses show here: nobody listens, or the network drops what is sent."""
    try:
        socket.create_connection(place, timeout=_CONNECT_S).close()
    except OSError as error:
        raise _unjoined(address, error.strerror or str(error)) from error


def _join(address: str, started: float) -> None:
    nowhere = subprocess.DEVNULL
    command = [sys.executable, "-P", "-c", _ASK, address]
    # Unbuffered: a line that was read along with the one before would not wake the selector.
    with subprocess.Popen(command, stdin=nowhere, stdout=subprocess.PIPE, stderr=nowhere, bufsize=0) as process:
        try:
            spent = time.monotonic() - started
            said = _line(process, _LOADING_S)
            if said == "loaded":
                said = _line(process, BOUND_S - spent)
        finally:
            process.kill()
    if said != "joined":
        raise _unjoined(address, f"no answer within {BOUND_S:.0f} s" if said is None else said or "Ray does not load")


def _line(process: subprocess.Popen[bytes], seconds: float) -> str | None:
    """The next line that the process prints, "" at its end, None when it takes longer than `seconds`."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        if not selector.select(max(0.0, seconds)):
            return None
    return process.stdout.readline().decode(errors="replace").strip()


def _unjoined(address: str, why: str) -> UserError:
    return UserError(
        f"cannot join the Ray cluster at {address}: {why}",
        "check the address (`ray status` on its head node shows it), the network and RAY_AUTH_TOKEN",
    )
