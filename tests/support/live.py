"""A pyramid's service that listens, in a thread of the test's own process; and one that is not there."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn

from curation.pyramid.store import Pyramid
from pipelines.api import tokens
from pipelines.api.app import create
from pipelines.api.served import Served, Settings
from pipelines.api.tokens import Scope


@contextmanager
def served(pyramid: Pyramid) -> Iterator[str]:
    """The address of its service, which ends with the block."""
    app = create(Served(pyramid, Settings(hosts=("127.0.0.1",))))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as bound:
        thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


def token(pyramid: Pyramid, scopes: Sequence[Scope] = (Scope.READ, Scope.WRITE)) -> str:
    return tokens.make(pyramid, "a test", list(scopes))[1]
