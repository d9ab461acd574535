"""The engine of an endpoint: whatever the server does, each clip gets its own caption, or a reason, once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.caption import outcome as outcome_module
from curation.caption.base import Asked, Left, Said
from curation.caption.budget import Limits
from curation.caption.check import check
from curation.caption.endpoint import Endpoint, Settings
from curation.caption.prompts import Aspect, Prompt
from curation.caption.transport import LONGEST_S, TRIES, pause_s, retry_after, without_key
from curation.errors import UserError
from tests.support import chat

PROMPT = Prompt("fields", 1, "Fill in.", "", (Aspect("subjects", "who"), Aspect("place", "where")), "Fuse:")
FREE = Prompt("free", 1, "Describe.")
Purse = Callable[[int, int], tuple[int, int]]


def clips(many: int) -> list[Asked]:
    """Clips whose pictures are like no others'."""
    return [Asked(f"clip{number}", (b"picture %d" % number, b"another")) for number in range(many)]


def names(asked: list[Asked]) -> dict[str, str]:
    return {one.clip_id: chat.name_of(one.pictures) for one in asked}


async def at_once(seconds: float) -> None:
    await asyncio.sleep(0)


@contextmanager
def engine(
    url: str, prompt: Prompt = PROMPT, pause: Any = at_once, key: str | None = None, **more: Any
) -> Iterator[Endpoint]:
    used = [0, 0]

    def purse(tokens_in: int, tokens_out: int) -> tuple[int, int]:
        used[0] += tokens_in
        used[1] += tokens_out
        return used[0], used[1]

    made = Endpoint(replace(Settings(url, chat.MODEL, timeout_s=5.0), **more), prompt, purse, key, pause)
    try:
        yield made
    finally:
        made.close()


def said(url: str, asked: list[Asked], **more: Any) -> dict[str, Said]:
    """What comes of each clip, seen to be one thing each."""
    with engine(url, **more) as made:
        found = [one for one in made.caption(asked) if one is not None]
    assert all(isinstance(one, Said) for one in found)
    assert sorted(one.clip_id for one in found) == sorted(one.clip_id for one in asked)
    return {one.clip_id: one for one in found if isinstance(one, Said)}


LOOP = json.dumps(dict.fromkeys(("subjects", "place"), "The man walks to the door. The man walks to the door."))
PASSES: dict[str, chat.Misdeed] = {
    "429": chat.status(429, retry_after="7"),
    "500": chat.status(500),
    "garbage": chat.raw(b"<html>no"),
    "no choices": chat.says("x", choices=[]),
    "another's": chat.for_another,
    "drops": chat.drops,
    "loops": chat.says(LOOP),
    "cut": chat.says('{"subjects": "A', finish="length"),
    "empty": chat.says(None),
}
STAYS = {"400": (chat.status(400), "request_refused: HTTP 400"), "loop": (chat.says(LOOP), "caption_loops")}
STAYS |= {
    "down": (chat.status(503), "unreadable: HTTP 503"),
    "mixed up": (chat.for_another, "unreadable: the answer is"),
}
STAYS |= {
    "text": (chat.says("no JSON"), "caption_invalid"),
    "broken": (chat.drops, "unreadable: the connection failed"),
}


@settings(max_examples=20)
@given(
    st.lists(st.sampled_from(["fine", *PASSES, *STAYS]), min_size=1, max_size=12), st.integers(1, 6), st.integers(0, 99)
)
def test_each_clip_gets_its_own_caption_or_its_reason_once(fates: list[str], at_a_time: int, seed: int) -> None:
    asked = clips(len(fates))
    called = names(asked)
    with chat.served() as server:
        server.misdeeds = [chat.shuffles(seed)]
        for one, fate in zip(asked, fates, strict=True):
            if fate in PASSES:
                server.misdeeds.append(chat.on(called[one.clip_id], chat.times(1, PASSES[fate])))
            elif fate in STAYS:
                server.misdeeds.append(chat.on(called[one.clip_id], STAYS[fate][0]))
        found = said(server.url, asked, concurrency=at_a_time)
    assert server.most_at_once <= at_a_time
    for one, fate in zip(asked, fates, strict=True):
        answer = found[one.clip_id]
        if fate in STAYS:
            assert answer.caption is None and (answer.why or "").startswith(STAYS[fate][1])
        else:
            assert answer.caption == f"A clip called {called[one.clip_id]} lies in the sun."
            assert answer.short == f"{called[one.clip_id]} in short."
            assert answer.fields == {name: f"{name} of {called[one.clip_id]}." for name in ("subjects", "place")}


def test_an_answer_that_never_comes_is_bounded_and_tried_again() -> None:
    asked = clips(3)
    with chat.served() as server:
        server.misdeeds = [chat.times(1, chat.hangs)]
        assert all(one.caption for one in said(server.url, asked, timeout_s=2.0).values())
        server.misdeeds = [chat.on(names(asked)["clip0"], chat.hangs)]
        found = said(server.url, asked, timeout_s=0.5, prompt=FREE)
    assert found["clip0"].why == "timed_out: no answer within 0.5 s" and found["clip0"].requests == TRIES


def test_the_time_that_a_server_asks_for_is_kept() -> None:
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)

    with chat.served() as server:
        server.misdeeds = [chat.times(2, chat.status(429, retry_after="100"))]
        assert said(server.url, clips(1), pause=pause)["clip0"].caption
        server.misdeeds = [chat.status(429, retry_after=str(LONGEST_S + 1))]
        late = said(server.url, clips(1), pause=pause)["clip0"]
    assert waits == [100.0, 100.0] and (late.requests, (late.why or "")[:20]) == (1, "unreadable: HTTP 429")
    assert [round(pause_s(n, None) or 0) <= 2**n for n in range(5)] == [True] * 5
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0.0
    assert retry_after({}) is None is retry_after({"retry-after": "soon"})


def test_tokens_and_the_end_of_an_answer_are_told() -> None:
    with chat.served() as server:
        limits = Limits(usd_in=1.0, usd_out=2.0)
        (one,) = said(server.url, clips(1), limits=limits).values()
        assert (one.requests, one.tokens_in, one.tokens_out, one.finish_reason) == (2, 200, 40, "stop")
        assert one.usd == pytest.approx((200 + 80) / 1e6)
        server.usage = None
        (one,) = said(server.url, clips(1)).values()
        assert (one.tokens_in, one.tokens_out, one.usd) == (None, None, None)


def test_what_is_asked_is_what_the_settings_say() -> None:
    with chat.served() as server:
        said(server.url, clips(1), prompt=FREE, temperature=0.5, max_tokens=7, seed=3, extra={"top_k": 9})
        server.misdeeds = [chat.times(1, chat.says("A"))]
        said(server.url, clips(1), prompt=FREE, seed=3)
    first, _, again = server.bodies
    assert {name: first[name] for name in ("model", "temperature", "max_tokens", "seed", "top_k")} == {
        "model": chat.MODEL,
        "temperature": 0.5,
        "max_tokens": 7,
        "seed": 3,
        "top_k": 9,
    }
    assert chat.pictures(first) == list(clips(1)[0].pictures) and "response_format" not in first
    assert (again["seed"], again["temperature"]) == (4, 0.5), "what would not do once would not do again"


def test_a_budget_leaves_clips_and_takes_no_answer_away() -> None:
    with chat.served() as server, engine(server.url, FREE, limits=Limits(tokens=600), max_tokens=20) as made:
        found = [one for one in made.caption(clips(20)) if one is not None]
        assert made.is_spent
        again = list(made.caption(clips(2)))
    done = [one for one in found if isinstance(one, Said)]
    assert all(one.caption for one in done) and len(found) == 20
    assert 120 * len(done) <= 600 and len(done) == 5 == len(server.bodies)
    assert again == [Left("clip0"), Left("clip1")]


def test_a_budget_cannot_be_kept_where_no_tokens_are_told() -> None:
    with (
        chat.served(chat.Endpoint(usage=None)) as server,
        engine(server.url, FREE, limits=Limits(tokens=6000)) as made,
        pytest.raises(UserError, match="does not say how many tokens"),
    ):
        list(made.caption(clips(2)))


@pytest.mark.parametrize(("code", "told"), [(401, "refuses the key"), (403, "refuses the key"), (404, "has no model")])
def test_what_no_clip_would_get_past_ends_the_run(code: int, told: str) -> None:
    with chat.served() as server, engine(server.url, FREE, key=chat.KEY) as made:
        server.misdeeds = [chat.status(code)]
        with pytest.raises(UserError, match=told) as raised:
            list(made.caption(clips(3)))
    assert chat.KEY not in str(raised.value) and "***" in str(raised.value)


def test_a_key_that_a_server_repeats_is_in_no_reason() -> None:
    with chat.served() as server:
        server.misdeeds = [chat.status(400)]
        (one,) = said(server.url, clips(1), key=chat.KEY).values()
    assert "Bearer ***" in (one.why or "") and chat.KEY not in repr(one)
    assert server.headers[0]["authorization"] == f"Bearer {chat.KEY}"
    assert without_key(f"a\n{chat.KEY}", chat.KEY) == "a ***"


def test_an_endpoint_is_checked_before_any_clip() -> None:
    with chat.served(chat.Endpoint(key=chat.KEY)) as server:
        assert check(server.url, chat.MODEL, chat.KEY) == f"{server.url} has {chat.MODEL}"
        with pytest.raises(UserError, match=r"refuses the key \(HTTP 401\)"):
            check(server.url, chat.MODEL, "sk-wrong")
        with pytest.raises(UserError, match="has no model 'other'; it has tiny-vlm"):
            check(server.url, "other", chat.KEY)
        server.models = None
        assert "lists no models" in check(server.url, "other", chat.KEY)
    with pytest.raises(UserError, match="does not answer"):
        check(server.url, chat.MODEL, None)


def completion(**more: Any) -> bytes:
    """The body of an answer, in ASCII: what is no character stands there as an escape."""
    message = {"role": "assistant", "content": "A fox runs."}
    body = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    return json.dumps(body | more).encode()


def test_half_a_character_in_an_answer_costs_no_caption() -> None:
    with chat.served() as server:
        server.misdeeds = [chat.raw(completion(usage=None).replace(b"fox", rb"\ud83d fox\u001b[31m"))]
        (one,) = said(server.url, clips(1), prompt=FREE).values()
    assert one.caption == "A fox runs."


def test_a_key_that_a_model_repeats_is_in_no_caption() -> None:
    with chat.served() as server:
        server.misdeeds = [chat.says(f"A sign says {chat.KEY}.", finish=chat.KEY)]
        (one,) = said(server.url, clips(1), prompt=FREE, key=chat.KEY).values()
        assert (one.caption, one.finish_reason) == ("A sign says [key].", "other")
        server.misdeeds = [chat.says("None of it is empty.")]
        (one,) = said(server.url, clips(1), prompt=FREE, key="None").values()
        assert one.caption == "None of it is empty.", "a word in the place of a key is no secret"


@pytest.mark.parametrize("count", [-1, 10**30, "many"])
def test_tokens_that_cannot_be_are_no_answer(count: Any) -> None:
    """They would give the budget back, or be no number of a column."""
    usage = {"prompt_tokens": count, "completion_tokens": 1}
    with chat.served() as server:
        server.misdeeds = [chat.raw(completion(usage=usage))]
        (one,) = said(server.url, clips(1), prompt=FREE).values()
    assert one.caption is None and (one.why or "").startswith("unreadable: the answer is no completion")


def test_the_key_goes_to_the_address_of_the_recipe_alone() -> None:
    with chat.served() as other, chat.served() as server:
        away = {"location": f"{other.url}/chat/completions"}
        server.misdeeds = [chat.status(307, **away)]
        (one,) = said(server.url, clips(1), prompt=FREE, key=chat.KEY).values()
        assert one.caption is None and (one.why or "").startswith("request_refused: HTTP 307")
        assert not other.bodies


def test_a_fault_of_ours_costs_the_clip_that_it_meets_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real = outcome_module.composed

    async def composed(prompt: Prompt, asked: Asked, send: Any) -> Any:
        if asked.clip_id == "clip1":
            raise UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed")
        return await real(prompt, asked, send)

    monkeypatch.setattr(outcome_module, "composed", composed)
    with chat.served() as server:
        found = said(server.url, clips(3), prompt=FREE)
    assert {name: one.caption is None for name, one in found.items()} == {"clip0": False, "clip1": True, "clip2": False}
    assert (found["clip1"].why or "").startswith("internal_error: UnicodeEncodeError: ")
