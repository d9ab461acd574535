"""Which answers become a caption, and what is asked once more."""

from __future__ import annotations

import asyncio
import json

import pytest

from curation.caption.base import Asked
from curation.caption.composing import Answer, Composed, WillNotDoError, composed
from curation.caption.prompts import Aspect, Prompt, Request, first, second

FREE = Prompt("free", 1, "Describe the clip.", length="It lasts {value} s.", motion="It moves by {value}.")
FIELDS = Prompt(
    "two", 1, "Fill in.", "Be exact.", (Aspect("who", "the subjects"), Aspect("where", "the place")), "Fuse:"
)
ASKED = Asked("c", (b"jpeg",), ("It lasts 2.0 s.",))


class Model:
    """Answers in turn, and keeps what it was asked."""

    def __init__(self, *answers: Answer | str) -> None:
        self.answers = [Answer(one, "stop") if isinstance(one, str) else one for one in answers]
        self.asked: list[Request] = []

    async def __call__(self, request: Request) -> Answer:
        self.asked.append(request)
        return self.answers.pop(0)

    def composed(self, prompt: Prompt) -> Composed:
        return asyncio.run(composed(prompt, ASKED, self))

    def why(self, prompt: Prompt) -> str:
        with pytest.raises(WillNotDoError) as raised:
            self.composed(prompt)
        assert not self.answers, "it was asked as often as it had answers"
        return raised.value.why


def fields(who: str = "A man.", where: str = "A yard. There is no text.") -> str:
    return json.dumps({"who": who, "where": where})


def test_free_text_is_one_request_with_pictures_and_cues() -> None:
    model = Model("The video shows a man.")
    assert model.composed(FREE) == Composed("A man.")
    (asked,) = model.asked
    assert asked == Request("Describe the clip.\nIt lasts 2.0 s.", pictures=(b"jpeg",))


def test_fields_are_asked_for_with_pictures_and_fused_without() -> None:
    model = Model(fields(), json.dumps({"dense": "A man stands in a yard.", "short": "A man."}))
    assert model.composed(FIELDS) == Composed(
        "A man stands in a yard.", "A man.", {"who": "A man.", "where": "A yard."}
    )
    seen, fused = model.asked
    assert seen.pictures and seen.schema is not None and seen.system == fused.system == "Be exact."
    assert [*seen.schema["properties"]] == ["who", "where"] == seen.schema["required"]
    assert not fused.pictures and fused.text.startswith("Fuse:") and '"who": "A man."' in fused.text
    assert "no text" not in fused.text, "what was cleaned is fused"


LONG, WALKS = Answer("A man walks.", "length"), "The man walks to the door. "


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (LONG, "caption_cut: the answer is longer"),
        ("A man walks and", "caption_cut: no end of a sentence"),
        (WALKS * 2, "caption_loops"),
        ("There is no text.", "caption_empty"),
        ("", "caption_empty"),
        ("I'm sorry, I can't do that.", "caption_declined"),
        (Answer("", "content_filter"), "caption_declined"),
        (Answer("I will not.", "stop", declined=True), "caption_declined: I will not."),
        ("A man walks. " * 5000, "caption_invalid: longer than 32768 characters"),
    ],
)
def test_what_will_not_do_is_asked_for_once_more_and_is_then_no_caption(bad: Answer | str, why: str) -> None:
    once = Model(bad, "A man walks.")
    assert once.composed(FREE).caption == "A man walks."
    assert [request.again for request in once.asked] == [0, 1]
    assert Model(bad, bad).why(FREE).startswith(why)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("no JSON", "caption_invalid: no JSON"),
        ("[1]", "caption_invalid: no object"),
        ("[" * 30_000, "caption_invalid: no JSON"),
        (json.dumps({"who": "A man."}), "caption_invalid: no object of the texts who, where"),
        (json.dumps({"who": "A man.", "where": 3}), "caption_invalid"),
        (fields("", ""), "caption_empty"),
        (fields(WALKS * 2), "caption_loops"),
        ("I'm sorry, I can't do that.", "caption_declined"),
    ],
)
def test_fields_that_will_not_do_are_asked_for_once_more(bad: str, why: str) -> None:
    good = json.dumps({"dense": "A man.", "short": "A man."})
    assert Model(bad, f"```json\n{fields()}\n```", good).composed(FIELDS).caption == "A man."
    assert Model(bad, bad).why(FIELDS).startswith(why)


def test_a_fused_answer_that_will_not_do_is_asked_for_once_more_alone() -> None:
    model = Model(fields(), '{"dense": "A man', json.dumps({"dense": "A man.", "short": ""}))
    assert model.composed(FIELDS).short is None and len(model.asked) == 3
    assert [bool(request.pictures) for request in model.asked] == [True, False, False]


def test_cues_are_sentences_for_what_was_measured() -> None:
    assert FREE.cues(2.04, 3.25) == ("It lasts 2.0 s.", "It moves by 3.2.")
    assert FREE.cues(None, None) == () == FIELDS.cues(2.0, 3.0)
    assert first(FREE, Asked("c", ())).schema is None
    assert second(FIELDS, {"where": "b", "who": "a"}).text.index("who") < second(
        FIELDS, {"where": "b", "who": "a"}
    ).text.index("where")
