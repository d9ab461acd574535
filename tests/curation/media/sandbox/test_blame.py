"""Whose fault: what PyAV and OpenCV raise over damaged input is the data's, what we raise is ours."""

from __future__ import annotations

import os
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.container import OutputContainer
from av.filter import Graph

from curation.contract import Reason, Verdict
from curation.errors import UserError
from curation.media.encode import Mp4
from curation.media.pictures import convert, develop, fields, mapping
from curation.media.plan import Encode, Limits, MediaPlan
from curation.media.probe import Unfit, open_media
from curation.media.sandbox import blame, handle
from curation.media.sandbox.blame import of_the_data, verdict_of
from curation.media.sandbox.sandbox import Sandbox
from tests.support import media
from tests.support.measuring import as_clips, measured


def judged(act: object) -> Verdict:
    try:
        act()  # type: ignore[operator]
    except Exception as error:
        return verdict_of(error)
    raise AssertionError("nothing was raised")


def _assert() -> None:
    assert not Path(), "ours"


def _bad_call() -> None:
    cv2.resize(np.zeros((0, 3), np.uint8), (3, 3))


def _unfit() -> None:
    raise Unfit(Reason.LOW_FPS, 3.0)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (_assert, Reason.INTERNAL),
        (lambda: {}["missing"], Reason.INTERNAL),
        (lambda: np.zeros(3)[7], Reason.INTERNAL),
        (_bad_call, Reason.BROKEN),
        (lambda: av.open(str(media.sample("plain.mp4")), format="matroska"), Reason.BROKEN),
        (lambda: av.VideoFrame(16, 16, "yuv420p").reformat(format="no such"), Reason.BROKEN),
        (lambda: av.VideoFrame(-1, 16, "yuv420p"), Reason.BROKEN),
        (_unfit, Reason.LOW_FPS),
        (lambda: np.zeros(1 << 50), Reason.MEMORY_LIMIT),
    ],
)
def test_where_it_was_raised_says_whose_it_is(act: object, reason: Reason) -> None:
    found = judged(act)
    assert found.reason is reason
    assert len(found.detail.splitlines()) <= 1 or reason is Reason.INTERNAL


def test_a_file_that_cannot_be_read_is_not_a_broken_one(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)  # a folder: it opens, and every read of it fails
    try:
        found = judged(lambda: av.open(handle.Reader(descriptor)))
    finally:
        os.close(descriptor)
    assert (found.reason, found.detail) == (Reason.UNREADABLE, "IsADirectoryError: [Errno 21] Is a directory")


def test_an_encoder_that_fails_is_not_the_videos() -> None:
    clip = as_clips(measured(media.sample("plain.mp4")))[0]
    frame = av.VideoFrame(clip.width, clip.height, "yuv420p")

    def encode() -> None:
        out = Mp4(clip, Encode(preset="no such preset"), frame)
        out.add(frame)

    assert judged(encode).reason is Reason.INTERNAL


class Lacking:
    """A graph of a libav that has no filter of this name."""

    name = ""

    def __init__(self) -> None:
        self.__dict__["graph"] = Graph()  # a class that takes no subclass

    def __getattr__(self, key: str) -> object:
        return getattr(self.__dict__["graph"], key)

    def __setattr__(self, key: str, value: object) -> None:
        setattr(self.__dict__["graph"], key, value)

    def add(self, name: str, *given: object) -> object:
        return self.__dict__["graph"].add("none of this name" if name == self.name else name, *given)


@pytest.mark.parametrize("name", ["bwdif", "premultiply", "haldclut", "scale"])
def test_a_filter_that_libav_lacks_is_told_before_any_video(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    mapping._order.cache_clear()
    monkeypatch.setattr(Lacking, "name", name)
    for module in (convert, fields, mapping):
        monkeypatch.setattr(module, "Graph", Lacking)
    with pytest.raises(UserError, match="none of this name"):
        develop.prepare()


def test_a_filter_with_a_wrong_option_is_told_before_any_video(monkeypatch: pytest.MonkeyPatch) -> None:
    develop.prepare()
    mapping._order.cache_clear()
    monkeypatch.setattr(mapping, "_MAPPER", "no_such_option=1")
    with pytest.raises(UserError, match="Option not found"):
        develop.prepare()


def _no_such_filter() -> None:
    Graph().add("no such filter")


def _no_such_option() -> None:
    Graph().add("bwdif", "no_such_option=1")


def _unlinked() -> None:
    graph = Graph()
    graph.add("bwdif")
    graph.configure()


@pytest.mark.parametrize("act", [_no_such_filter, _no_such_option, _unlinked])
def test_a_filter_that_fails_is_not_the_videos(act: object) -> None:
    assert judged(act).reason is Reason.INTERNAL


def test_our_frames_around_avs_make_no_difference() -> None:
    assert of_the_data("builtins", ["curation.media.measure", "av.container.core"])
    assert of_the_data("av.error", ["curation.media.frames"])
    assert not of_the_data("builtins", ["av.container.core", "curation.media.measure"])
    assert not of_the_data("builtins", ["avocado.core"])
    assert not of_the_data("av.error", ["curation.media.encode", "av.container.output"])
    assert not of_the_data("builtins", [])


def with_title(path: Path, title: bytes) -> Path:
    """A webm whose title is these bytes, whatever they are as text."""
    media.run(
        media.ffmpeg.input(str(media.sample("plain.mp4"))).output(
            str(path), vcodec="libvpx", t=2.5, metadata="title=TITLE-TITLE"
        )
    )
    data = path.read_bytes()
    assert data.count(b"TITLE-TITLE") == 1
    path.write_bytes(data.replace(b"TITLE-TITLE", title.ljust(11, b"x")))
    return path


def test_a_title_that_is_not_utf8_loses_no_video(tmp_path: Path) -> None:
    path = with_title(tmp_path / "latin1.webm", "café".encode("latin-1"))
    with open_media(path) as (container, _):
        assert container.metadata["title"].startswith("caf\ufffd")
    with Sandbox(Limits(memory_mb=1024)) as sandbox:
        found = sandbox.measure(path, path.name, MediaPlan())
    assert found.verdict is None or found.verdict.reason not in (Reason.INTERNAL, Reason.BROKEN)


def test_what_is_named_is_what_exists() -> None:
    """The modules by which blame is laid, by their names: a rename would change the verdict in silence."""
    assert handle.__name__ == blame._READER
    assert Mp4.__module__ in blame._MAKING
    assert OutputContainer.__module__ in blame._MAKING
    assert Graph.__module__.rpartition(".")[0] in blame._MAKING
