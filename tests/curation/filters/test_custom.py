"""A user's own filter: found, made, asked, and its answers checked."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.errors import UserError
from curation.filters.base import NO_SAMPLES, ScoreValue
from curation.filters.custom import Custom, WrongAnswer, custom_fingerprint
from curation.filters.trial import try_out

FRAME = np.zeros((32, 32, 3), np.uint8)
SOURCE = """
class Echo:
    def __init__(self, answers=(), fails=False):
        if fails:
            raise OSError("no weights")
        self.answers = answers

    def measure(self, clips):
        return [self.answers[int(frames[0][0, 0, 0])] for frames in clips]


class Deaf:
    pass


made = Echo()


def make(path):
    open(path, "w").close()


number = 3
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "outside.py").write_text(SOURCE)
    info = tmp_path / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    points = "[ziggurat.filters]\necho = outside:Echo\nrotten = rotten:Echo\ntwice = outside:Echo\n"
    (info / "entry_points.txt").write_text(points)
    other = tmp_path / "other-1.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (other / "entry_points.txt").write_text("[ziggurat.filters]\ntwice = outside:Echo\n")
    (tmp_path / "rotten.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "outside", raising=False)
    return tmp_path


def echo(*answers: Any, scores: tuple[str, ...] = ("echo",), filter_: str = "outside:Echo") -> Custom:
    return Custom("echo", filter_, scores, options={"answers": answers})


def asked(filter_: Custom, many: int) -> list[tuple[ScoreValue, ...]]:
    return filter_.measure([[np.full((32, 32, 3), number, np.uint8)] for number in range(many)])


def test_numbers_are_values_and_texts_are_reasons() -> None:
    found = asked(echo(1, 2.5, np.float32(0.25), None, "no face"), 5)
    assert found == [
        (ScoreValue(1.0),),
        (ScoreValue(2.5),),
        (ScoreValue(0.25),),
        (ScoreValue(None, "echo: no value"),),
        (ScoreValue(None, "echo: no face"),),
    ]


def test_several_scores_come_by_their_names() -> None:
    answers = ({"b": 2, "a": 1}, {"a": None, "b": "why"}, "nothing")
    assert asked(echo(*answers, scores=("a", "b")), 3) == [
        (ScoreValue(1.0), ScoreValue(2.0)),
        (ScoreValue(None, "echo: no value"), ScoreValue(None, "echo: why")),
        (ScoreValue(None, "echo: nothing"),) * 2,
    ]


def test_a_clip_without_frames_is_not_shown_to_it() -> None:
    one, none, other = echo(5.0, 6.0).measure([[FRAME], [], [FRAME + 1]])
    assert (one, none, other) == ((ScoreValue(5.0),), (ScoreValue(None, NO_SAMPLES),), (ScoreValue(6.0),))
    assert echo().measure([[]]) == [(ScoreValue(None, NO_SAMPLES),)]


@pytest.mark.parametrize(
    "answer", [float("nan"), float("inf"), 1e39, -1e39, True, np.True_, [1.0], 1j, {"other": 1.0}, b"text"]
)
def test_what_is_no_number_is_no_answer(answer: Any) -> None:
    with pytest.raises(WrongAnswer, match="the filter echo gave"):
        asked(echo(answer), 1)


@pytest.mark.parametrize("answer", [1.0, {"a": 1.0}, {"a": 1.0, "b": 2.0, "c": 3.0}, {"a": 1.0, "b": float("nan")}])
def test_of_several_scores_each_needs_its_value(answer: Any) -> None:
    with pytest.raises(WrongAnswer, match="the filter echo gave"):
        asked(echo(answer, scores=("a", "b")), 1)


def test_each_clip_needs_its_answer() -> None:
    filter_ = echo(1.0)
    filter_._filter.measure = lambda clips: [1.0]
    with pytest.raises(WrongAnswer, match="1 answers for 2 clips"):
        filter_.measure([[FRAME], [FRAME]])


@pytest.mark.parametrize(
    ("filter_", "told"),
    [
        ("nowhere.at.all:Echo", "nowhere.at.all:Echo cannot be imported: ModuleNotFoundError"),
        ("outside:Nobody", "outside has no Nobody"),
        ("outside:number", "outside:number is no class with a method `measure`"),
        ("outside:made", "outside:made is no class with a method `measure`"),
        ("outside:Deaf", "outside:Deaf is no class with a method `measure`"),
        ("nobody", "no package announces 'nobody' in the group ziggurat.filters"),
        ("rotten", "rotten cannot be imported: ValueError: numpy.dtype size changed"),
        ("rotten:Echo", "rotten:Echo cannot be imported: ValueError: numpy.dtype size changed"),
        ("twice", "2 packages announce 'twice'"),
    ],
)
def test_what_is_not_there_is_told_in_a_line(filter_: str, told: str) -> None:
    with pytest.raises(UserError, match="the filter echo") as caught:
        Custom("echo", filter_, ("echo",))
    assert told in caught.value.cause and "\n" not in str(caught.value)


def test_an_entry_point_names_a_filter() -> None:
    assert asked(echo(7.0, filter_="echo"), 1) == [(ScoreValue(7.0),)]


def test_a_filter_that_cannot_be_made_says_why() -> None:
    with pytest.raises(UserError, match="cannot be made: OSError: no weights"):
        Custom("echo", "outside:Echo", ("echo",), options={"fails": True})
    with pytest.raises(UserError, match="cannot be made: TypeError"):
        Custom("echo", "outside:Echo", ("echo",), options={"colour": 1})


def test_what_measures_nothing_is_not_called(tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    for filter_, options in (
        ("outside:make", {"path": str(touched)}),
        ("subprocess:Popen", {"args": f"touch {touched}", "shell": True}),
    ):
        with pytest.raises(UserError, match="is no class with a method `measure`"):
            Custom("echo", filter_, ("echo",), options=options)
    assert not touched.exists()


def test_a_reason_is_one_line_of_some_length() -> None:
    ((value,),) = asked(echo("one\n\ttwo " + "x" * 1000), 1)
    assert value.why is not None and value.why.startswith("echo: one two xxx") and len(value.why) < 250


def test_its_identity_is_what_the_recipe_says_of_it() -> None:
    first = custom_fingerprint("echo", 1, "outside:Echo", {"a": 1})
    others = [("echo", 2, "outside:Echo", {"a": 1}), ("echo", 1, "outside:Other", {"a": 1})]
    others.append(("echo", 1, "outside:Echo", {"a": 2}))
    assert len({first, *(custom_fingerprint(*one) for one in others)}) == 4
    assert first.startswith("echo-1-")


def test_a_trial_does_not_look_where_the_command_was_typed(
    package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A worker would not find there what a trial had found."""
    monkeypatch.chdir(package)
    settings = '{"filter": "custom", "name": "echo", "filter_": "outside:Echo", "scores": ["echo"], "options": {}}'
    with pytest.raises(UserError, match="outside:Echo cannot be imported"):
        try_out(settings)
    monkeypatch.setenv("PYTHONPATH", str(package))
    told = settings.replace("{}", '{"answers": ' + str([0.5] * 256) + "}")
    assert (
        try_out(told) == f"{custom_fingerprint('echo', 1, 'outside:Echo', {'answers': [0.5] * 256})} measured a frame"
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("outside:Echo", "outside:Nobody"), "outside has no Nobody"),
        (('"answers"', '"fails"'), "cannot be made: OSError: no weights"),
        (('["echo"]', '["echo", "other"]'), "WrongAnswer: the filter echo gave float in the place of echo, other"),
    ],
)
def test_a_trial_tells_in_a_line_what_does_not_work(
    package: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], told: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(package))
    settings = {"filter": "custom", "name": "echo", "filter_": "outside:Echo", "scores": ["echo"]}
    text = json.dumps({**settings, "options": {"answers": [0.5] * 256}})
    with pytest.raises(UserError) as caught:
        try_out(text.replace(*change))
    assert told in caught.value.cause and "\n" not in str(caught.value)
