"""Requests to a service: with the token, a time limit, and another try for what only reads.

    Client -> [Transport: one address, one token] -> httpx -> the service

The token goes into one header of requests to one address. Redirects are told and not followed, and over plain HTTP no
proxy of the environment is asked: nobody else gets it.
"""

from __future__ import annotations

import json
import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from curation.errors import UserError
from curation.printable import printable
from pipelines.client.address import Address
from pipelines.client.errors import ServiceError, UnreachableError, refusal

Asked = Sequence[tuple[str, str]]
"""Parameters of a request, in their order."""
_T = TypeVar("_T")
_BUSY = 503
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retries:
    """How often what only reads is asked again after a lost connection or a 503 (`times`), and after how many seconds:
    `first_s`, twice as many each time, as many as the service says, and `most_s` at most.
    """

    times: int = 4
    first_s: float = 0.5
    most_s: float = 20.0
    sleep: Callable[[float], None] = time.sleep

    def wait_s(self, tried: int, said: str | None) -> float:
        """Seconds after the try with this number, from 0 on. Some chance, so that many clients do not come at once."""
        if said is not None and said.isdecimal():
            return min(float(said), self.most_s)
        return min(self.first_s * 2**tried, self.most_s) * random.uniform(0.75, 1.0)


class Transport:
    """See the module. Made once; may be used by several threads."""

    def __init__(self, address: Address, timeout_s: float, retries: Retries) -> None:
        self.address, self._timeout_s, self._retries = address, timeout_s, retries
        headers = {"User-Agent": "ziggurat"} | ({"Authorization": f"Bearer {address.token}"} if address.token else {})
        self._http = _client(
            address.url,
            headers=headers,
            timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 10.0)),
            follow_redirects=False,
            trust_env=address.is_https,  # a proxy of the environment would read what is not encrypted
        )

    def close(self) -> None:
        self._http.close()

    def read(self, path: str, asked: Asked = (), accept: str | None = None) -> bytes:
        """The body of what is there."""
        headers = {} if accept is None else {"Accept": accept}
        return self.again(lambda: self._sent("GET", path, asked, headers=headers))

    def json(self, path: str, asked: Asked = ()) -> dict[str, Any]:
        return _parsed(self.read(path, asked))

    def post_to_read(self, path: str, content: bytes, kind: str, asked: Asked = (), accept: str = "*/*") -> bytes:
        """The answer to a question that is too long for an address; nothing is written by it."""
        headers = {"Content-Type": kind, "Accept": accept}
        return self.again(lambda: self._sent("POST", path, asked, content=content, headers=headers))

    def ask(self, path: str, data: Any) -> Any:
        """The same in JSON."""
        return _parsed(self.post_to_read(path, _json(data), "application/json"))

    def is_well(self, path: str) -> bool:
        """Whether a path answers, asked once."""
        try:
            self._sent("GET", path, ())
        except (*LOST, UnreachableError):
            return False
        return True

    def write(self, method: str, path: str, data: Any) -> Any:
        """Have something changed, once: whether it was, nobody knows where the answer is lost."""
        headers = {"Content-Type": "application/json"}
        try:
            return _parsed(self._sent(method, path, (), content=_json(data), headers=headers))
        except _UnmadeError:
            raise
        except UnreachableError as error:
            told = f"{error.cause}; whether it was done is not known"
            raise UnreachableError(told, "look before it is asked for again") from None

    @contextmanager
    def streamed(self, path: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """An answer whose bytes are read by whoever takes it, for one try."""
        with self._told(), self._http.stream("GET", path, headers=dict(headers)) as answer:
            if answer.status_code not in (200, 206):
                raise self._refused(answer.status_code, answer.read(), answer.headers)
            yield answer

    def again(self, ask: Callable[[], _T]) -> _T:
        """What `ask` gives, which only reads; asked again as `Retries` says."""
        for tried in range(self._retries.times):
            try:
                return ask()
            except (_LostError, _BusyError) as error:
                self.pause(tried, error)
        return ask()

    @property
    def times(self) -> int:
        return self._retries.times

    def pause(self, tried: int, error: UserError) -> None:
        """Wait before the next try."""
        seconds = self._retries.wait_s(tried, error.after if isinstance(error, _BusyError) else None)
        _log.info("%s; asked again in %.1f s", error.cause, seconds)
        self._retries.sleep(seconds)

    def _sent(self, method: str, path: str, asked: Asked, **more: Any) -> bytes:
        with self._told():
            answer = self._http.request(method, path, params=list(asked) or None, **more)
        if not answer.is_success:
            raise self._refused(answer.status_code, answer.content, answer.headers)
        return answer.content

    def _refused(self, status: int, content: bytes, headers: Mapping[str, str]) -> ServiceError:
        error = refusal(status, content, headers.get("location"))
        return error if status != _BUSY else _BusyError(error, headers.get("retry-after"))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What goes wrong on the way, in one line."""
        try:
            yield
        except (httpx.ReadTimeout, httpx.WriteTimeout, httpx.PoolTimeout):
            told = f"{self.address.url} has not answered within {self._timeout_s:g} s"
            raise UnreachableError(told, "narrow the question, or allow more time (Client(timeout_s=...))") from None
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            told = f"no service answers at {self.address.url} ({_why(error)})"
            raise _UnmadeError(told, "check the address, and that `ziggurat serve` runs there") from None
        except httpx.RequestError as error:
            told = f"the connection to {self.address.url} broke ({_why(error)})"
            raise _LostError(told, "see whether `ziggurat serve` still runs there") from None


def _client(url: str, **settings: Any) -> httpx.Client:
    try:
        return httpx.Client(base_url=url, **settings)
    except httpx.InvalidURL as error:
        raise UserError(f"{url} is no address ({error})", "give it as `ziggurat serve` shows it") from None


class _LostError(UnreachableError):
    """The connection was not made, or broke."""


class _UnmadeError(_LostError):
    """It was not made: nothing has been asked."""


class _BusyError(ServiceError):
    """The service cannot answer now; `after`: how many seconds it says to wait."""

    def __init__(self, error: ServiceError, after: str | None) -> None:
        super().__init__(error.cause, error.remedy, error.status, error.field)
        self.after = after


LOST = (_LostError, _BusyError)
"""What another try may mend."""


def _why(error: Exception) -> str:
    return printable(str(error)) or type(error).__name__


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ServiceError(
            "what answers is no service of a pyramid", "check the address: `ziggurat serve` shows it", 200
        )
    return found


def _json(data: Any) -> bytes:
    try:
        return json.dumps(data, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"what is asked cannot be sent ({error})", "give numbers, texts and None") from None
