"""An OpenAI-compatible endpoint on this machine that answers by rule, and misbehaves where a test says so.

What it sees of a clip are its pictures: `told` names them, so that a caption says whose it is. Requests wait for each
other where a test wants them answered in another order than asked.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "tiny-vlm"
KEY = "sk-a-secret-of-this-test"

Body = dict[str, Any]
Misdeed = Callable[["Handler", Body], bool]
"""Does something in place of an answer, and says whether it did."""


@dataclass
class Endpoint:
    """What the server is like, and what it was asked. `misdeeds`: tried in turn on each request. `say`: the caption
    for the pictures' name; `usage`: tokens of each answer; `models`: what it lists, None: it lists none.
    """

    misdeeds: list[Misdeed] = field(default_factory=list)
    say: Callable[[str], str] = lambda name: f"A clip called {name} lies in the sun."
    usage: tuple[int, int] | None = (100, 20)
    models: tuple[str, ...] | None = (MODEL,)
    key: str | None = None
    url: str = ""
    bodies: list[Body] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def asked(self) -> list[str]:
        """The names of the pictures of each request that had some, in the order in which they came."""
        return [told(body) for body in self.bodies if pictures(body)]

    def content(self, body: Body) -> str:
        """What the model answers."""
        if "response_format" not in body:
            return self.say(told(body))
        schema = body["response_format"]["json_schema"]["schema"]
        if pictures(body):
            return json.dumps({name: f"{name} of {told(body)}." for name in schema["required"]})
        name = text_of(body).partition("subjects of ")[2].partition(".")[0]
        return json.dumps({"dense": self.say(name), "short": f"{name} in short."})


def pictures(body: Body) -> list[bytes]:
    """The pictures of a request."""
    content = body["messages"][-1]["content"]
    urls = (
        [part["image_url"]["url"] for part in content if part["type"] == "image_url"] if content != str(content) else []
    )
    return [base64.b64decode(url.partition(",")[2]) for url in urls]


def text_of(body: Body) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def name_of(files: list[bytes] | tuple[bytes, ...]) -> str:
    """What pictures are called: no two clips' are called the same."""
    return hashlib.sha256(b"".join(files)).hexdigest()[:12]


def told(body: Body) -> str:
    return name_of(pictures(body))


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        to = self.server.endpoint
        if not self._has_key():
            return
        if to.models is None:
            self.answer(404, {"error": {"message": "no such page"}})
        else:
            self.answer(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in to.models]})

    def do_POST(self) -> None:
        to, body = self.server.endpoint, json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self._has_key():
            return
        with to.lock:
            to.bodies.append(body)
            to.headers.append({name.lower(): value for name, value in self.headers.items()})
            to.at_once += 1
            to.most_at_once = max(to.most_at_once, to.at_once)
        try:
            if not any(misdeed(self, body) for misdeed in list(to.misdeeds)):
                self.complete(to.content(body))
        finally:
            with to.lock:
                to.at_once -= 1

    def _has_key(self) -> bool:
        key = self.server.endpoint.key
        if key is None or self.headers.get("authorization") == f"Bearer {key}":
            return True
        self.answer(401, {"error": {"message": f"wrong key {self.headers.get('authorization')}"}})
        return False

    def complete(self, text: str | None, finish: str = "stop", **more: Any) -> None:
        """Answer as a model does."""
        usage = self.server.endpoint.usage
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
        body: Body = {"id": "chatcmpl-1", "object": "chat.completion", "model": MODEL, "choices": [choice]}
        if usage is not None:
            body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
        self.answer(200, body | more)

    def answer(self, status: int, body: Any, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def begin_answer(self, content: bytes) -> None:
        """Send the beginning of a longer answer."""
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", "1000")
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


class Server(ThreadingHTTPServer):
    """Says nothing of clients that have gone."""

    daemon_threads = True
    endpoint: Endpoint

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def served(endpoint: Endpoint | None = None) -> Iterator[Endpoint]:
    """The endpoint, for as long as the block lasts."""
    endpoint = endpoint or Endpoint()
    server = Server(("127.0.0.1", 0), Handler)
    server.endpoint = endpoint
    endpoint.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def times(many: int, misdeed: Misdeed) -> Misdeed:
    """The misdeed on the first so many requests that it would be done on."""
    left = [many]
    lock = threading.Lock()

    def some(handler: Handler, body: Body) -> bool:
        with lock:
            if left[0] <= 0:
                return False
            left[0] -= 1
        if misdeed(handler, body):
            return True
        with lock:
            left[0] += 1
        return False

    return some


def on(name: str, misdeed: Misdeed) -> Misdeed:
    """The misdeed on requests with these pictures."""
    return lambda handler, body: bool(pictures(body)) and told(body) == name and misdeed(handler, body)


def status(code: int, **headers: str) -> Misdeed:
    def done(handler: Handler, body: Body) -> bool:
        handler.answer(code, {"error": {"message": f"no answer, {handler.headers.get('authorization')}"}}, **headers)
        return True

    return done


def says(text: str | None, finish: str = "stop", **more: Any) -> Misdeed:
    def done(handler: Handler, body: Body) -> bool:
        handler.complete(text, finish, **more)
        return True

    return done


def raw(content: bytes) -> Misdeed:
    def done(handler: Handler, body: Body) -> bool:
        handler.answer(200, content)
        return True

    return done


def for_another(handler: Handler, body: Body) -> bool:
    """Answers as if to another request of ours, as a server that mixes up its answers would."""
    handler.complete("Another clip's caption.", id=f"chatcmpl-ziggurat-{'0' * 32}")
    return True


def hangs(handler: Handler, body: Body) -> bool:
    """Sends the beginning of an answer, and no more."""
    handler.begin_answer(b'{"id":')
    handler.server.endpoint.over.wait(60)
    handler.close_connection = True
    return True


def drops(handler: Handler, body: Body) -> bool:
    """Drops the connection in the middle of a body."""
    handler.begin_answer(b'{"id": "chatcmpl-1", "choices": [')
    handler.close_connection = True
    return True


def shuffles(seed: int, longest_s: float = 0.03) -> Misdeed:
    """Takes its time, more or less of it."""
    draw = random.Random(seed)

    def waits(handler: Handler, body: Body) -> bool:
        time.sleep(draw.random() * longest_s)
        return False

    return waits
