"""The captioner over an engine in this process: whatever order answers come in and whatever the engine does, each clip
gets its own caption, or a reason, once, or all of them go to another worker.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.caption.base import Asked, Said
from curation.caption.offline import captioner as captioner_module
from curation.caption.offline.base import Done
from curation.caption.offline.captioner import Offline
from curation.caption.prompts import Aspect, Prompt
from curation.errors import UserError, WorkerSpentError
from tests.support.chat import name_of
from tests.support.engine import Engine

PROMPT = Prompt("fields", 1, "Fill in.", "", (Aspect("subjects", "who"), Aspect("place", "where")), "Fuse:")
FREE = Prompt("free", 1, "Describe.")
LOOP = "The man walks to the door. The man walks to the door."


def clips(many: int, of: str = "clip") -> list[Asked]:
    return [Asked(f"{of}{number}", (b"%b %d" % (of.encode(), number), b"another")) for number in range(many)]


@contextmanager
def over(engine: Engine, prompt: Prompt = PROMPT, concurrency: int = 4) -> Iterator[Offline]:
    made = Offline(lambda: engine, prompt, concurrency)
    try:
        yield made
    finally:
        made.close()
        assert engine.is_closed or engine.hangs is not None


def said(engine: Engine, asked: list[Asked], prompt: Prompt = PROMPT, concurrency: int = 4) -> dict[str, Said]:
    """What comes of each clip, seen to be one thing each."""
    with over(engine, prompt, concurrency) as made:
        found = [one for one in made.caption(asked) if isinstance(one, Said)]
    assert sorted(one.clip_id for one in found) == sorted(one.clip_id for one in asked)
    return {one.clip_id: one for one in found}


def done(text: str, finish: str = "stop") -> Done:
    return Done("", text, finish, 100, 20)


FATES: dict[str, tuple[list[Done], str | None]] = {
    "fine": ([], None),
    "once": ([done("no JSON")], None),
    "cut once": ([done('{"subjects": "A', "length")], None),
    "cut": ([done('{"subjects": "A', "length")] * 2, "caption_cut: the answer is longer than max_tokens"),
    "loops": ([done(json.dumps(dict.fromkeys(("subjects", "place"), LOOP)))] * 2, "caption_loops"),
    "invalid": ([done("{}")] * 2, "caption_invalid"),
    "given up": ([done("A dog.", "error")], "unreadable: the engine gave the request up (error)"),
    "refused": ([], "request_refused: the prompt is too long"),
}


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from([*FATES]), min_size=1, max_size=20), st.integers(1, 6), st.integers(1, 9), st.integers()
)
def test_each_clip_gets_its_own_caption_or_its_reason_once(
    fates: list[str], at_a_step: int, concurrency: int, seed: int
) -> None:
    asked = clips(len(fates))
    called = {one.clip_id: name_of(one.pictures) for one in asked}
    fate_of = dict(zip(called, fates, strict=True))
    texts = {called[name]: list(FATES[fate][0]) for name, fate in fate_of.items()}
    refuses = frozenset(called[name] for name, fate in fate_of.items() if fate == "refused")
    engine = Engine(seed, at_a_step, texts, refuses)
    for name, one in said(engine, asked, concurrency=concurrency).items():
        why = FATES[fate_of[name]][1]
        if why is None:
            assert one.caption == f"A clip called {called[name]} lies in the sun."
            assert one.fields == {aspect: f"{aspect} of {called[name]}." for aspect in ("subjects", "place")}
            assert (one.short, one.finish_reason) == (f"{called[name]} in short.", "stop")
            assert (one.tokens_in, one.tokens_out) == (100 * one.requests, 20 * one.requests)
        else:
            assert one.caption is None and (one.why or "").startswith(why)
    assert engine.most <= concurrency
    assert all(name.rpartition(".")[0] in called for name, _ in engine.begun), "a request is called by its clip"


def test_requests_are_kept_in_flight_and_not_sent_in_batches() -> None:
    """An engine that answers one request with each step has as many as it may with nearly each of them."""
    engine = Engine(at_a_step=1)
    in_hand: list[int] = []
    step = engine.step

    def counted() -> list[Done]:
        in_hand.append(len(engine._now))
        time.sleep(0.002)
        return list(step())

    engine.step = counted
    said(engine, clips(40), FREE, concurrency=5)
    assert len(in_hand) == 40 and max(in_hand) == 5 and in_hand[-4:] == [4, 3, 2, 1]
    assert in_hand.count(5) > 30, "in batches it would be a fifth of them"


def test_a_schema_goes_along_where_fields_are_asked_for_and_a_second_try_says_so() -> None:
    engine = Engine(texts={name_of(clips(1)[0].pictures): [done("no JSON")]})
    said(engine, clips(1))
    first, again, fused = (request for _, request in engine.begun)
    assert first.schema is not None and [*first.schema["properties"]] == ["subjects", "place"] and first.again == 0
    assert (again.schema, again.again) == (first.schema, 1) and fused.schema is not None and not fused.pictures


def test_two_callers_share_the_engine_and_each_gets_its_own() -> None:
    engine = Engine(at_a_step=2)
    found: dict[str, list[Said]] = {"left": [], "right": []}
    with over(engine, concurrency=3) as made:

        def ask(who: str) -> None:
            found[who] = [one for one in made.caption(clips(12, who)) if isinstance(one, Said)]

        threads = [threading.Thread(target=ask, args=(who,)) for who in found]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    for who, some in found.items():
        assert {one.clip_id: one.caption for one in some} == {
            one.clip_id: f"A clip called {name_of(one.pictures)} lies in the sun." for one in clips(12, who)
        }
    assert engine.most <= 3


@pytest.mark.parametrize("fault", [{"dies_at": 3}, {"lies_at": 3}])
def test_an_engine_that_dies_or_answers_for_another_is_lost_with_all_that_is_in_flight(fault: dict[str, Any]) -> None:
    """What came before it stands; no answer of it becomes a caption afterwards."""
    engine = Engine(at_a_step=1, **fault)
    found: list[Said] = []
    told = "Dead: CUDA error" if "dies_at" in fault else "LookupError: an answer to 'another.0'"
    with over(engine, FREE) as made:
        stream = made.caption(clips(9))
        with pytest.raises(WorkerSpentError, match="the engine is lost: ") as raised:
            found.extend(one for one in stream if isinstance(one, Said))
        assert told in str(raised.value)
        with pytest.raises(WorkerSpentError):
            list(made.caption(clips(2)))
    assert len(found) <= 2
    called = {one.clip_id: name_of(one.pictures) for one in clips(9)}
    assert all(one.caption == f"A clip called {called[one.clip_id]} lies in the sun." for one in found)


def test_an_engine_that_cannot_be_made_is_a_line() -> None:
    def make() -> Engine:
        raise UserError("vLLM cannot load it", "look")

    made = Offline(make, FREE, 2)
    with pytest.raises(UserError, match="vLLM cannot load it"):
        list(made.caption(clips(2)))
    made.close()


def test_an_engine_that_hangs_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is told that nothing has come, again and again, so that the watchdog can name it."""
    monkeypatch.setattr(captioner_module, "BEAT_S", 0.01)
    monkeypatch.setattr(captioner_module, "_POLL_S", 0.01)
    engine = Engine(hangs=threading.Event())
    with over(engine, FREE) as made:
        stream = made.caption(clips(9))
        assert [next(stream) for _ in range(20)] == [None] * 20
        assert engine.hangs is not None
        engine.hangs.set()
        assert len([one for one in stream if isinstance(one, Said)]) == 9
    assert engine.is_closed


def test_a_caller_that_goes_leaves_its_room_to_others() -> None:
    engine = Engine(at_a_step=1)
    with over(engine, FREE, concurrency=2) as made:
        stream: Any = made.caption(clips(9))
        next(one for one in stream if one is not None)
        stream.close()
        assert len([one for one in made.caption(clips(9, "other")) if isinstance(one, Said)]) == 9
