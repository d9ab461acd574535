"""The captioner over an engine in this process: as many requests in flight as the engine is to have, and no batches.

A thread of its own owns the engine: it takes requests in between two steps, and each answer goes on with its clip's
conversation (`outcome`), whose next request joins at once. Several callers may have clips captioned side by side, so
that the engine has the next item's requests while the last ones of an item are answered.

A request bears its clip's id and a number that never comes again. An answer under any other name, like whatever the
engine raises, means that it cannot be relied on: `WorkerSpentError` goes to all callers, and another process begins.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from curation.caption.base import Asked, Left, Said
from curation.caption.composing import Answer
from curation.caption.offline.base import Done, Engine, Settings
from curation.caption.outcome import Tally, outcome
from curation.caption.prompts import Prompt, Request
from curation.caption.transport import BEAT_S, Failed, Refused
from curation.contract import Reason
from curation.errors import UserError, WorkerSpentError
from curation.pyramid.history.failures import failure

_NO_ANSWER = ("abort", "error")
"""How a request ends that has no answer, in vLLM's words; its server makes an error of them."""
_POLL_S = 0.05
"""How long a caller waits that has more to ask and no room, for another caller's room may come free."""


@dataclass(frozen=True, slots=True)
class MakeOffline:
    """Makes the captioner of a block, in the worker; vLLM loads meanwhile."""

    settings: Settings
    prompt: Prompt

    def __call__(self) -> Offline:
        from curation.caption.offline.engine import VllmEngine

        return Offline(lambda: VllmEngine(self.settings), self.prompt, self.settings.concurrency)


class _Turn:
    """Awaited, it hands out a request and comes back with the answer: what `outcome` sends by."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def __await__(self) -> Generator[Request, Answer, Answer]:
        return (yield self._request)


class _Talk:
    """The conversation about one clip. `came`: where what comes of it is put."""

    def __init__(self, prompt: Prompt, asked: Asked, came: queue.SimpleQueue[Said | None]) -> None:
        self.clip_id, self.came, self.is_dropped = asked.clip_id, came, False
        self._tally = Tally()
        self._coming: Coroutine[Any, Any, Said] = outcome(prompt, asked, self._send, self._tally)

    def begin(self) -> Request | Said:
        """Its first request. Its time counts from here: it may have waited long, for the model to be loaded say."""
        self._tally.began = time.monotonic()
        return self._go(lambda: self._coming.send(None))

    def answered(self, done: Done) -> Request | Said:
        """The next request, or what has come of the clip."""
        self._tally.ended(done.finish_reason)
        self._tally.count(done.tokens_in, done.tokens_out)
        return self._go(lambda: self._coming.send(Answer(done.text, done.finish_reason)))

    def failed(self, error: Refused | Failed) -> Request | Said:
        """The same, where the engine does not take its request, or gives it up."""
        return self._go(lambda: self._coming.throw(error))

    def end(self) -> None:
        """Nothing more comes of it."""
        with suppress(ValueError):  # it is at work at this moment, and ends by itself
            self._coming.close()
        self.came.put(None)

    async def _send(self, request: Request) -> Answer:
        self._tally.requests += 1
        return await _Turn(request)

    @staticmethod
    def _go(on: Callable[[], Request]) -> Request | Said:
        try:
            return on()
        except StopIteration as end:
            return end.value


class Offline:
    """See `base.Captioner`. `make`: the engine, in the thread that will own it; `concurrency`: requests in flight."""

    def __init__(self, make: Callable[[], Engine], prompt: Prompt, concurrency: int) -> None:
        self._make, self._prompt, self._concurrency = make, prompt, concurrency
        # As many again wait, so that an answer's place in the engine is taken at once.
        self._room = threading.Semaphore(2 * concurrency)
        self._asked: queue.SimpleQueue[_Talk | None] = queue.SimpleQueue()
        self._talks: dict[str, _Talk] = {}
        self._numbers = itertools.count()
        self._over: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="captions", daemon=True)
        self._thread.start()

    @property
    def is_spent(self) -> bool:
        """See `Captioner.is_spent`: it has no budget."""
        return False

    def caption(self, clips: Iterable[Asked]) -> Iterator[Said | Left | None]:
        """See `Captioner.caption`. Raises `WorkerSpentError` where the engine is lost."""
        self._check()
        came: queue.SimpleQueue[Said | None] = queue.SimpleQueue()
        stream, at_work, has_more = iter(clips), dict[str, _Talk](), True
        try:
            while True:
                while has_more and self._room.acquire(blocking=False):
                    try:
                        asked = next(stream, None)
                    except BaseException:
                        self._room.release()
                        raise
                    if asked is None:
                        self._room.release()
                        has_more = False
                        break
                    assert asked.clip_id not in at_work, "a clip is asked for once"
                    at_work[asked.clip_id] = talk = _Talk(self._prompt, asked, came)
                    self._asked.put(talk)
                if not at_work and not has_more:
                    return
                try:
                    said = came.get(timeout=_POLL_S if has_more else BEAT_S)
                except queue.Empty:
                    self._check()
                    yield None
                    continue
                if said is None:
                    self._check()
                    continue
                del at_work[said.clip_id]
                self._room.release()
                yield said
        finally:
            for talk in at_work.values():
                talk.is_dropped = True
                self._room.release()
                if self._over is not None:
                    talk.end()

    def close(self) -> None:
        """End the engine; requests that are in flight are dropped."""
        self._asked.put(None)
        self._thread.join(timeout=BEAT_S)

    def _check(self) -> None:
        """Raise what the engine was lost by."""
        if isinstance(self._over, UserError):
            raise self._over
        if self._over is not None:
            said = " ".join(str(self._over).split())[:300]
            raise WorkerSpentError(f"the engine is lost: {type(self._over).__name__}: {said}") from self._over

    def _serve(self) -> None:
        """The thread's work, to the end of the engine."""
        try:
            engine = self._make()
            try:
                while self._take_in(engine):
                    for done in engine.step() if self._talks else ():
                        self._answered(engine, done)
            finally:
                engine.close()
        except BaseException as error:  # raised again where it is waited for
            self._over = error
        else:
            self._over = RuntimeError("the captioner is closed")
        for talk in self._talks.values():
            talk.end()
        with suppress(queue.Empty):
            while True:
                if (waiting := self._asked.get(block=False)) is not None:
                    waiting.end()

    def _take_in(self, engine: Engine) -> bool:
        """Begin what has been asked for, as far as the engine has room, waiting where nothing is in flight; False where
        the captioner is closed.
        """
        while len(self._talks) < self._concurrency:
            try:
                talk = self._asked.get(block=not self._talks)
            except queue.Empty:
                return True
            if talk is None:
                return False
            if talk.is_dropped:
                talk.end()
            else:
                self._go_on(engine, talk, talk.begin())
        return True

    def _answered(self, engine: Engine, done: Done) -> None:
        talk = self._talks.pop(done.name, None)
        if talk is None:
            raise LookupError(f"an answer to {done.name!r}, which nobody has asked")
        if talk.is_dropped:
            talk.end()
        elif done.finish_reason in _NO_ANSWER:
            why = failure(Reason.UNREADABLE, f"the engine gave the request up ({done.finish_reason})")
            self._go_on(engine, talk, talk.failed(Failed(why, True)))
        else:
            self._go_on(engine, talk, talk.answered(done))

    def _go_on(self, engine: Engine, talk: _Talk, what: Request | Said) -> None:
        """Begin a clip's next request; where there is none, what has come of the clip goes to its caller."""
        while isinstance(what, Request):
            name = f"{talk.clip_id}.{next(self._numbers)}"
            try:
                engine.begin(name, what)
            except Refused as error:
                what = talk.failed(error)
                continue
            self._talks[name] = talk
            return
        talk.came.put(what)
