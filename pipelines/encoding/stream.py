"""Samples that are encoded while training asks for them, with no copy on a disk: `ziggurat train --stream`.

    a rank's readers -> Stream.read -> actors: stored bytes -> [sandbox] -> [encoders] -> Encoded -> the rank

`Stream` stands in the place of `training.data.latents.LatentStore`. What it gives has the numbers that `encode` would
have written, for a sample's depend on no other. No more waits than what ranks read ahead: they ask, and nobody else.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curation.errors import UserError
from curation.media.plan import Limits
from curation.pyramid.store import Pyramid
from curation.shards.manifest import Frozen
from pipelines.encoding.once import Once
from pipelines.execution.cluster import Resources
from pipelines.frames.clips import PyramidClips
from training.data.encoded import Encoded

if TYPE_CHECKING:
    from training.data.encoder import Encoder
    from training.data.latent_file import Encoders
    from training.models.base import LatentSpec, TextStates
    from training.models.build import ModelSpec

AT_ONCE = 2
"""Samples in an actor's hands: one is decoded while another is encoded."""
PATIENCE_S = 1800.0
"""For one sample, with those before it; longer than any takes, for else a rank would wait for ever."""
_DOCTOR = "see `ziggurat doctor`"
_REMEDY = "`ziggurat encode` leaves out what fails: train on what it writes, with --latents"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an actor is to encode. `model`: with the device that it has. `context`: ranks that share each sample, and
    all ask for it.
    """

    frozen: Frozen
    pyramid: Pyramid
    model: ModelSpec
    limits: Limits
    context: int = 1


@dataclass(frozen=True, slots=True)
class Refused:
    """A `UserError` on its way: of an exception Ray keeps the text only."""

    cause: str
    remedy: str


class SampleEncoder:
    """The actor. Its encoders are loaded when it is first asked, so that what fails there can be told."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted, self._lock = wanted, threading.Lock()
        self._clips = PyramidClips(wanted.pyramid, wanted.frozen, wanted.limits, AT_ONCE, _REMEDY)
        self._encoder: Encoder | None = None
        self._about: Encoders | None = None
        self._once: Once[int, Encoded | Refused] = Once(wanted.context)

    def about(self) -> Encoders | Refused:
        """Who its encoders are."""
        try:
            return self._ready()[1]
        except UserError as error:
            return Refused(error.cause, error.remedy)

    def encode(self, number: int, made: tuple[str, str]) -> Encoded | Refused:
        """The sample of this number. Refused: it cannot be decoded, or this process, started again on another machine,
        has other encoders than those `made` tells of.
        """
        return self._once.get(number, lambda: self._encoded(number, made))

    def _encoded(self, number: int, made: tuple[str, str]) -> Encoded | Refused:
        wanted = self._wanted
        try:
            encoder, about = self._ready()
            if (about.autoencoder, about.text) != made:
                raise _other_encoders()
            (frames,) = self._clips.read([number])
            (row,) = wanted.frozen.samples.slice(number, 1).to_pylist()
            with self._lock:
                return encoder(number, row, frames, wanted.frozen.manifest.seed)[0]
        except UserError as error:
            return Refused(error.cause, error.remedy)

    def _ready(self) -> tuple[Encoder, Encoders]:
        from training.data.encoder import Encoder

        with self._lock:
            if self._encoder is None or self._about is None:
                self._encoder = Encoder(self._wanted.model)
                self._about = self._encoder.about()
            return self._encoder, self._about


class Stream:
    """A `Source`: samples by number, from actors. Each process that reads has one of its own; pickled, it starts anew
    there. Threads may call `read` at once.
    """

    def __init__(self, encoders: Encoders, actors: Sequence[Any], context: int = 1) -> None:
        """`context`: ranks that share each sample; they ask the same actor for it."""
        self._encoders, self._actors, self._context = encoders, tuple(actors), context
        self._asked: Counter[int] = Counter()
        self._lock = threading.Lock()
        # Ranks begin at different actors, and each goes on with the one of which it waits for the least.
        self._turn = itertools.count(int(os.environ.get("RANK", "0")))

    @property
    def spec(self) -> LatentSpec:
        return self._encoders.spec

    @property
    def empty(self) -> TextStates:
        return self._encoders.empty

    @property
    def encoders(self) -> Encoders:
        """Who makes the samples."""
        return self._encoders

    def read(self, samples: Sequence[int]) -> list[Encoded]:
        import ray
        from ray.exceptions import GetTimeoutError, RayError

        coming = {number: self._ask(number) for number in dict.fromkeys(int(number) for number in samples)}
        found: dict[int, Encoded] = {}
        try:
            for number, (_, answer) in coming.items():
                found[number] = _taken(number, ray.get(answer, timeout=PATIENCE_S))
        except GetTimeoutError as error:
            told = f"sample {number} was not encoded within {PATIENCE_S / 60:.0f} minutes"
            raise UserError(
                told, "see whether the encoders' nodes are there (`ray status`), and give it again"
            ) from error
        except RayError as error:
            raise UserError(f"sample {number} could not be encoded: {said(error)}", _DOCTOR) from error
        finally:
            with self._lock:
                self._asked.subtract(index for index, _ in coming.values())
        return [found[int(number)] for number in samples]

    def _ask(self, number: int) -> tuple[int, Any]:
        count, made = len(self._actors), (self._encoders.autoencoder, self._encoders.text)
        with self._lock:
            turn = next(self._turn)
            index = min(range(count), key=lambda one: (self._asked[one], (one - turn) % count))
            if self._context > 1:
                index = number % count
            self._asked[index] += 1
        return index, self._actors[index].encode.remote(number, made)

    def __reduce__(self) -> tuple[type[Stream], tuple[Any, ...]]:
        return Stream, (self._encoders, self._actors, self._context)


def check_room(encoders: int, trainers: int, gpus: float, there: Resources) -> None:
    """UserError: so many encoders, a GPU each, and as many trainers on Ray, find no room."""
    if gpus and encoders + trainers > there.gpus:
        told = f"{encoders} encoders" + (f" and {trainers} workers" if trainers else "")
        raise UserError(f"{told} take a GPU each, and Ray has {there.gpus:g}", "lower --stream")


def _taken(number: int, answer: Encoded | Refused) -> Encoded:
    if isinstance(answer, Refused):
        raise UserError(answer.cause, answer.remedy)
    assert answer.sample == number
    return answer


@contextmanager
def streaming(wanted: Wanted, count: int, gpus: float) -> Iterator[Stream]:
    """So many actors on the Ray that was joined, a GPU each (`gpus` 1) or the model's threads; they end with the block.

    UserError: the encoders cannot be loaded, are not the same everywhere, or there is no room for all of them.
    """
    import ray

    actor: Any = ray.remote(SampleEncoder)
    options: Mapping[str, Any] = {
        "num_cpus": wanted.model.threads,
        "num_gpus": gpus or None,
        "max_concurrency": AT_ONCE,
        "max_restarts": -1,
        "max_task_retries": -1,
    }
    kept = ray.put(wanted)
    actors = [actor.options(**options).remote(kept) for _ in range(count)]
    try:
        yield Stream(_same([one.about.remote() for one in actors]), actors, wanted.context)
    finally:
        for one in actors:
            ray.kill(one)


def _same(asked: Sequence[Any]) -> Encoders:
    """Who the actors' encoders are."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    try:
        answers: list[Encoders | Refused] = ray.get(list(asked), timeout=PATIENCE_S)
    except GetTimeoutError as error:
        told = f"{len(asked)} encoders did not start within {PATIENCE_S / 60:.0f} minutes"
        raise UserError(told, "there may be no room for so many (`ray status`): lower --stream") from error
    except RayError as error:
        raise UserError(f"an encoder could not be started: {said(error)}", _DOCTOR) from error
    for answer in answers:
        if isinstance(answer, Refused):
            raise UserError(answer.cause, answer.remedy)
    first = answers[0]
    assert not isinstance(first, Refused)
    if any(answer != first for answer in answers):
        raise _other_encoders()
    return first


def said(error: Exception) -> str:
    """Of what happened in an actor Ray gives a traceback, whose last line says it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


def _other_encoders() -> UserError:
    told = "one encoder has other weights, or makes other states, than another"
    return UserError(told, "give every node of the cluster the same files, packages and kind of GPU")
