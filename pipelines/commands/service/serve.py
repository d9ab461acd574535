"""`ziggurat serve`: the service of a pyramid, until it is stopped."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from curation.errors import UserError
from curation.inputs.roots import Roots
from curation.pyramid.storage.files import is_remote
from curation.pyramid.tiering.retier import opened
from pipelines import logs
from pipelines.commands.jobs.server import OUTDO, Server, checked, connected

_NEEDED = ("fastapi", "uvicorn", "jinja2", "prometheus_client")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_ALL = ("0.0.0.0", "::")
GRACE_S = 5


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `ziggurat serve`. `port`: 0 for any that is free; `names`: what else it is called by; `roots`:
    where requests may lead; `address`: of a Ray job server, None for no jobs.
    """

    pyramid: str
    host: str = "127.0.0.1"
    port: int = 8470
    names: Sequence[str] = ()
    without_tokens: bool = False
    roots: Sequence[str] = ()
    address: str | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """A service that is about to answer: where, and by which link a person opens it (good once)."""

    address: str
    link: str


def serve(request: Request, told: Callable[[Started], None], group: Any) -> None:
    """Serve until a signal comes. `told` gets what a person needs to know before the first request. `group`: the whole
    command line, which reads jobs before they are sent.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise UserError(f"the service needs {', '.join(missing)}", "pip install 'ziggurat[serve]'")
    is_loopback = _is_loopback(request.host)
    if request.without_tokens and not is_loopback:
        raise UserError("without tokens everybody who reaches the service may do everything", "listen on 127.0.0.1")
    pyramid, roots, ray = opened(request.pyramid), Roots.of(request.roots), _ray(request.address)
    pyramid.dataset("clips")

    import uvicorn
    import uvicorn.config

    from pipelines.api.app import create
    from pipelines.api.served import Served, Settings
    from pipelines.web import pages

    hosts = (*_LOOPBACK, *request.names) if is_loopback else (tuple(request.names) or None)
    place = request.pyramid if is_remote(request.pyramid) else pyramid.uri
    asks = not request.without_tokens
    served = Served(pyramid, Settings(asks, hosts, place=place, roots=roots, ray=ray, group=group))
    with _bound(request.host, request.port) as bound:
        address = f"http://{_shown(_called(request))}:{bound.getsockname()[1]}"
        told(Started(address, f"{address}/enter?key={served.sessions.link()}"))
        service = create(served)
        pages.mount(service)
        config = uvicorn.Config(
            service,
            log_config=None if logs.is_json() else uvicorn.config.LOGGING_CONFIG,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_S,
            lifespan="off",
        )
        uvicorn.Server(config).run([bound])


def _ray(address: str | None) -> Callable[[], Server] | None:
    """How the job server is reached. UserError: that is no address."""
    if address is None:
        return None
    place = checked(address)
    for name in OUTDO:  # Ray's client would go there instead; nothing else in this process asks for it
        os.environ.pop(name, None)
    return lambda: connected(place)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bound(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        told = getattr(error, "strerror", None) or str(error)
        raise UserError(f"cannot listen on {host}:{port} ({told})", "name another --port or --host") from error


def _called(request: Request) -> str:
    """By which name a person on this machine, or whoever the names are for, opens it: an address for all is none."""
    if request.host not in _ALL:
        return request.host
    return next(iter(request.names), "localhost")


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host
