"""What of a model's text is a caption: each rule by what it takes away and what it leaves."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.caption.cleaning import cleaned, declines, is_ended, loop_in, says_absence, sentences, unpacked


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("The video shows a dog running.", "A dog running."),
        ("This short clip depicts a man. He waves.", "A man. He waves."),
        ("In this video, a cat sleeps.", "A cat sleeps."),
        ("In the video, we can see a cat that sleeps.", "A cat that sleeps."),
        ("Throughout the clip, there is a red car.", "A red car."),
        ("We see a harbour at dusk.", "A harbour at dusk."),
        ("The footage captures that the sea is calm.", "The sea is calm."),
        ("The image is of a tower.", "A tower."),
        ("The video begins with a close-up of a hand.", "A close-up of a hand."),
        ("A dog runs. The scene also features two trees.", "A dog runs. Two trees."),
        ("The videographer shows his camera.", "The videographer shows his camera."),
        ("A woman shows the video on her phone.", "A woman shows the video on her phone."),
    ],
)
def test_stock_openers_go(said: str, kept: str) -> None:
    assert cleaned(said) == kept


@pytest.mark.parametrize(
    "said",
    [
        "There is no text.",
        "There are no other people in the frame.",
        "There appears to be no movement of the camera.",
        "There is nothing else to be seen.",
        "No other objects are visible.",
        "No text, logos or subtitles are clearly shown.",
        "Nothing else is visible in the background.",
        "The video does not contain any text.",
        "The clip contains no people.",
        "Other objects are not visible.",
        "Any text is absent.",
    ],
)
def test_sentences_about_absence_go(said: str) -> None:
    assert says_absence(said)
    assert cleaned(f"A dog runs. {said} The grass is green.") == "A dog runs. The grass is green."


@pytest.mark.parametrize(
    "said",
    [
        "There is a man with no hat.",
        "There is no doubt that he is glad.",
        "There is no longer any snow on the roof.",
        "No one answers as she knocks.",
        "A sign says that nothing is allowed.",
        "Nothing moves but the clouds.",
        "The video wall is lit.",
    ],
)
def test_sentences_that_say_what_is_there_stay(said: str) -> None:
    assert not says_absence(said) and cleaned(said) == said


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("```\nA dog runs.\n```", "A dog runs."),
        ('```json\n{"a": "b"}\n```', '{"a": "b"}'),
        ('  "A dog\n\n runs."  ', "A dog runs."),
        ("“A dog runs.”", "A dog runs."),
        ('"A" and "B".', '"A" and "B".'),
        ("Caption: A dog runs.", "A dog runs."),
        ("Here is a dense caption: A dog runs.", "A dog runs."),
        ("Sure! Here's the description of the clip:\nA dog runs.", "A dog runs."),
        ("<think>It may be\na dog.</think> A **dog** runs.", "A dog runs."),
        ("A man: tall, thin.", "A man: tall, thin."),
    ],
)
def test_packaging_goes(said: str, kept: str) -> None:
    assert unpacked(said) == kept


def test_sentences_end_in_any_script_and_not_within_numbers() -> None:
    assert sentences('It is 4.5 m. "Yes." He nods!') == ["It is 4.5 m.", '"Yes."', "He nods!"]
    assert sentences("一只狗在跑。草是绿的。") == ["一只狗在跑。", "草是绿的。"]


@pytest.mark.parametrize(
    ("text", "whole"),
    [("A dog runs.", True), ('He says "yes."', True), ("狗在跑。", True), ("A dog runs and", False), ("A dog,", False)],
)
def test_the_end_of_a_sentence_is_seen(text: str, whole: bool) -> None:
    assert is_ended(text) is whole


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("The man walks to the door. He waits. The man walks to the door.", "The man walks to the door."),
        ("It is very very very very tall.", "very"),
        ("A dog and a cat and a dog and a cat and a dog and a cat and a dog.", "a dog and a cat and"),
        ("狗在跑" * 6 + "。", None),
    ],
)
def test_loops_are_found(text: str, what: str | None) -> None:
    found = loop_in(text)
    assert found is not None and (what is None or found.lower() in f"{what} {what}".lower() or found == what)


@pytest.mark.parametrize(
    "text",
    [
        "It is very, very, very tall.",
        "He nods. She smiles. He nods.",
        "A red car, a blue car, a green car and a white car stand in a row.",
        "The camera pans left, then pans right, then pans left again, and then it rests.",
    ],
)
def test_repetition_that_people_write_is_none(text: str) -> None:
    assert loop_in(text) is None


def test_a_refusal_is_told_from_a_caption() -> None:
    assert declines("I'm sorry, but I can't describe this.") and declines("As an AI model, I cannot.")
    assert not declines("A man who is sorry.") and not declines("I-beams lie in a yard.")


def test_nothing_is_left_of_a_text_that_says_nothing() -> None:
    assert cleaned("There is no text. No people are visible.") == "" == cleaned("   ") == cleaned("``````")


ANY = st.text(
    st.one_of(st.characters(exclude_categories=()), st.sampled_from("\x1b\x9b\x07\x00\u202e\u2066\ufeff`[]m\n"))
)


@given(ANY)
def test_a_caption_is_of_characters_that_are_shown_and_a_file_can_hold(text: str) -> None:
    for found in (cleaned(text), unpacked(text)):
        found.encode()
        assert not any(unicodedata.category(one) in ("Cc", "Cs") or one in "\u202e\u2066\u200f\ufeff" for one in found)


def test_what_steers_a_terminal_goes_whole() -> None:
    assert cleaned("\x1b[31m\x1b]0;title\x07A fox\x1b[2J runs\x9b31m.") == "A fox runs."
    assert cleaned("\u202eA \ud83d fox\x00 runs.") == "A fox runs."
    assert cleaned("ناز\u200cپسند می‌دود.") == "ناز\u200cپسند می‌دود.", "what joins letters is none of it"


@pytest.mark.parametrize(
    "text", ["<think>" * 4000, "```\n" + "\n" * 30_000 + "x", "```" * 9000, "[" * 30_000, "no " * 9000]
)
def test_a_text_that_is_made_to_take_long_does_not(text: str) -> None:
    cleaned(text)


@pytest.mark.parametrize(
    ("fenced", "inside"),
    [
        ("```json\n{}\n```", "{}"),
        ("```{}```", "{}"),
        ("``` \nA fox.\n```", "A fox."),
        ("```json{}```", "{}"),
        ("```", "```"),
    ],
)
def test_a_fence_goes_with_its_language(fenced: str, inside: str) -> None:
    assert unpacked(fenced) == inside
