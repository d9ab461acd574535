"""The engine of an OpenAI-compatible endpoint: chat completions over HTTP, many at a time, each bounded in time.

Requests run in an event loop of a thread of their own and go on while whoever asked writes down what has come. An
answer belongs to the request that it was returned to; where a server sends our name of another request along with it,
it is refused. What may pass (no connection, time-outs, 429, 5xx, a body that is no completion) is tried again, after
the time that the server names; the rest is the clip's reason, or, where no clip would fare better, a `UserError`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import queue
import re
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from curation.caption.base import Asked, Left, Said
from curation.caption.budget import Budget, Limits, Purse, UsedUpError
from curation.caption.composing import Answer
from curation.caption.outcome import Tally, drawn, outcome
from curation.caption.prompts import Prompt, Request
from curation.caption.transport import BEAT_S, TRIES, Failed, Refused, pause_s, retry_after, struck, without_key
from curation.contract import Reason
from curation.errors import UserError
from curation.pyramid.history.failures import failure

_OURS = "ziggurat-"
_NAME = re.compile(rf"{_OURS}[0-9a-f]{{32}}")


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model at an endpoint is asked. `url`: the base of its API; `seed` None: the server draws one; `extra`:
    further keys of the request's body.
    """

    url: str
    model: str
    temperature: float = 0.0
    max_tokens: int = 1024
    seed: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    concurrency: int = 8
    timeout_s: float = 120.0
    limits: Limits = field(default_factory=Limits)


_Count = Annotated[int, Field(ge=0, le=10**9)]
SECRET = 16
"""Characters of the shortest key that is taken out of a model's words: servers without keys are given "none" or
"EMPTY", and such a word may stand in a caption."""


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: _Count
    completion_tokens: _Count


class _Completion(BaseModel):
    """What is read of a server's answer. `id` only tells whether it is one of another request of ours."""

    id: str | None = None
    choices: list[_Choice]
    usage: _Usage | None = None


class Endpoint:
    """See `base.Captioner`. `key`: for the server, None for one that takes any; it goes nowhere else."""

    def __init__(
        self,
        settings: Settings,
        prompt: Prompt,
        purse: Purse,
        key: str | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._set, self._prompt, self._key, self._pause = settings, prompt, key, pause
        self._client = client(settings.url, key, settings.timeout_s)
        self._budget = Budget(settings.limits, settings.max_tokens, purse)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="captions", daemon=True)
        self._thread.start()

    @property
    def is_spent(self) -> bool:
        """See `Captioner.is_spent`."""
        return self._budget.is_spent

    def caption(self, clips: Iterable[Asked]) -> Iterator[Said | Left | None]:
        """See `Captioner.caption`."""
        came: queue.SimpleQueue[tuple[str, Future[Said | Left]]] = queue.SimpleQueue()
        stream, at_work = iter(clips), dict[str, Future[Said | Left]]()
        try:
            while True:
                while len(at_work) < self._set.concurrency and (asked := next(stream, None)) is not None:
                    name = asked.clip_id
                    assert name not in at_work, "a clip is asked for once"
                    at_work[name] = future = asyncio.run_coroutine_threadsafe(self._said(asked), self._loop)
                    future.add_done_callback(lambda done, name=name: came.put((name, done)))
                if not at_work:
                    return
                try:
                    name, done = came.get(timeout=BEAT_S)
                except queue.Empty:
                    yield None
                    continue
                del at_work[name]
                yield done.result()
        finally:
            for future in at_work.values():
                future.cancel()

    def close(self) -> None:
        """End the loop; requests that are in the air are dropped."""
        with suppress(Exception):
            asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(timeout=BEAT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=BEAT_S)

    async def _said(self, asked: Asked) -> Said | Left:
        """What comes of one clip. Raises `UserError`."""
        tally = Tally()

        async def send(request: Request) -> Answer:
            return await self._answer(request, tally)

        try:
            ends = (UserError, UsedUpError)
            return await outcome(self._prompt, asked, send, tally, self._set.limits.cost, self._told, ends)
        except UsedUpError:
            return Left(asked.clip_id)

    async def _answer(self, request: Request, tally: Tally) -> Answer:
        """The answer to a request, which is tried again where that may help."""
        for tried in range(TRIES):
            await self._budget.begin()
            tally.requests += 1
            try:
                found = await self._once(request)
            except Failed as failed:
                await (self._budget.lost() if failed.may_cost else self._budget.release())
                wait = pause_s(tried, failed.retry_after)
                if tried == TRIES - 1 or wait is None:
                    raise
                await self._pause(wait)
                continue
            except BaseException:
                await self._budget.release()
                raise
            return await self._counted(found, tally)
        raise AssertionError("a request is answered or fails")

    async def _counted(self, found: _Completion, tally: Tally) -> Answer:
        choice, usage = found.choices[0], found.usage
        tally.ended(choice.finish_reason)
        if usage is None:
            await self._budget.lost()
            if self._set.limits.any:
                raise UserError(
                    f"{self._set.url} does not say how many tokens an answer took, so no budget can be kept",
                    "take the budget out of the recipe, or use an endpoint that gives `usage`",
                )
        else:
            tally.count(usage.prompt_tokens, usage.completion_tokens)
            await self._budget.end(usage.prompt_tokens, usage.completion_tokens)
        refusal = choice.message.refusal
        text = choice.message.content or refusal or ""
        if self._key is not None and len(self._key) >= SECRET:
            text = struck(text, self._key, "[key]")
        return Answer(text, choice.finish_reason, refusal is not None)

    async def _once(self, request: Request) -> _Completion:
        """One request, within its time. Raises `Failed` where another try may help."""
        import openai

        name = f"{_OURS}{uuid.uuid4().hex}"
        try:
            async with asyncio.timeout(self._set.timeout_s):
                completions = self._client.chat.completions.with_raw_response
                answer = await completions.create(**self._body(request), extra_headers={"X-Request-Id": name})
        except (TimeoutError, openai.APITimeoutError):
            raise Failed(failure(Reason.TIMED_OUT, f"no answer within {self._set.timeout_s:g} s"), True) from None
        except openai.APIConnectionError as error:
            what = self._told(str(error.__cause__ or error))
            raise Failed(failure(Reason.UNREADABLE, f"the connection failed: {what}"), True) from None
        except openai.APIStatusError as error:
            raise self._of_status(error.status_code, error.message, error.response.headers) from None
        except openai.OpenAIError as error:
            raise Failed(failure(Reason.UNREADABLE, f"no answer: {self._told(str(error))}"), True) from None
        return _read(answer.text, name, answer.headers.get("x-request-id"))

    def _of_status(self, status: int, message: str, headers: Any) -> Exception:
        told = f"HTTP {status}: {self._told(message)}"
        if status in (401, 403):
            return UserError(f"{self._set.url} refuses the key ({told})", "check the key and its rights")
        if status == 404:
            return UserError(f"{self._set.url} has no model {self._set.model} ({told})", "check `endpoint` and `model`")
        if status in (408, 409, 425, 429) or status >= 500:
            return Failed(failure(Reason.UNREADABLE, told), False, retry_after(headers))
        return Refused(told)

    def _body(self, request: Request) -> dict[str, Any]:
        said = self._set
        temperature, seed = drawn(said.temperature, said.seed, request.again)
        body: dict[str, Any] = {
            "model": said.model,
            "messages": _messages(request),
            "temperature": temperature,
            "max_tokens": said.max_tokens,
        }
        if seed is not None:
            body["seed"] = seed
        if request.schema is not None:
            schema = {"name": "answer", "strict": True, "schema": dict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return body | ({"extra_body": said.extra} if said.extra else {})

    def _told(self, text: str) -> str:
        return without_key(text, self._key)


def client(url: str, key: str | None, timeout_s: float) -> Any:
    """A client of the package `openai` that tries nothing again by itself and takes nothing from the environment."""
    import openai

    return openai.AsyncOpenAI(
        base_url=url,
        api_key=key or "none",
        organization="",
        project="",
        max_retries=0,
        timeout=timeout_s,
        http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),  # the key is for this address alone
    )


def _messages(request: Request) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{base64.b64encode(one).decode()}"}}
        for one in request.pictures
    ]
    content.append({"type": "text", "text": request.text})
    system = [{"role": "system", "content": request.system}] if request.system else []
    return [*system, {"role": "user", "content": content if request.pictures else request.text}]


def _read(text: str, name: str, echoed: str | None) -> _Completion:
    """The completion in a body. Raises `Failed` where it is none, or another request's."""
    try:
        # Python's reader takes half a character, which a model may give and `cleaning` takes away.
        found = _Completion.model_validate(json.loads(text))
    except (ValueError, RecursionError) as error:
        if not isinstance(error, ValidationError):
            raise Failed(failure(Reason.UNREADABLE, "the answer is no completion: no JSON"), True) from None
        first = error.errors(include_url=False, include_input=False)[0]
        raise Failed(failure(Reason.UNREADABLE, f"the answer is no completion: {first['msg']}"), True) from None
    if not found.choices:
        raise Failed(failure(Reason.UNREADABLE, "the answer has no choices"), True)
    for other in _NAME.findall(f"{found.id or ''} {echoed or ''}"):
        if other != name:
            raise Failed(failure(Reason.UNREADABLE, "the answer is one to another request"), True)
    return found
