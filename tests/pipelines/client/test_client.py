"""`ziggurat.Client` gives what the pyramid itself gives, with its types."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pyarrow as pa
import pytest

from curation.errors import UserError
from curation.pyramid.history.census import apart, census
from curation.pyramid.history.waiting import Waiting
from curation.pyramid.queries.histogram import histogram
from curation.pyramid.queries.videos import listing
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.retention import tier_report
from curation.pyramid.tiering.tiers import Range
from pipelines.api import shapes
from pipelines.client import conditions, pages, wire
from pipelines.client.client import Client
from pipelines.client.errors import ServiceError
from pipelines.commands.pyramid.runs import seen
from pipelines.commands.pyramid.stats import Request, stats
from pipelines.commands.pyramid.tiers import table
from pipelines.commands.pyramid.why import why
from tests.pipelines.client import made
from tests.pipelines.commands.similar.made import frame, ids

DOCS = Path(__file__).parents[3] / "docs" / "service.md"


def test_clips_come_as_they_lie_page_by_page(client: Client, pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_ROWS", 3)
    whole = pyramid.query().whole()
    captions = ("caption", "caption_by")
    motion = whole.where(motion=(None, 3)).order("motion", True)
    for ours, theirs in (
        (client.clips(), whole),
        (client.clips(limit=7), whole.limit(7)),
        (client.clips(motion=(1, 4.5), kind="video"), whole.where(motion=(1, 4.5), kind="video")),
        (client.clips({"motion": "..3"}, order="-motion", tier="all"), motion),
        (client.clips(caption=None, columns=("clip_id", "uri")), whole.where(caption=None).columns("clip_id", "uri")),
        (client.clips(version=1), whole.at(1)),
        (client.clips(caption_by=["given"], columns=captions), whole.captions_by("given").columns(*captions)),
        (client.clips(motion=(99, None), kind="video"), whole.where(motion=(99, None), kind="video")),
    ):
        there = pa.Table.from_batches(theirs.batches(), theirs.schema())
        assert ours.to_table().equals(there), ours.asked
        assert ours.count() == there.num_rows, ours.asked
    assert list(ours) == []
    assert list(client.clips(limit=4)) == whole.limit(4).to_table().to_pylist()
    assert client.clips().schema().equals(whole.schema())
    assert client.clips().limit(0).to_table().num_rows == 0 == client.clips().limit(0).count()


def test_pages_stay_in_the_version_of_the_first(
    client: Client, pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MOST_ROWS", 5)
    before, rows = pyramid.query().count(), iter(client.clips())
    next(rows)
    removed = pyramid.dataset("clips").version
    client.move("moving", {"motion": (5, None)})
    try:
        assert pyramid.refreshed().dataset("clips").version > removed and len(list(rows)) == before - 1
    finally:
        client.move("moving", {"motion": (3, None)})


def test_videos(client: Client, pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MOST_ROWS", 2)
    found = client.videos()
    assert found.to_table().equals(pa.Table.from_batches(listing(pyramid).batches())) and found.count() == made.VIDEOS
    (lost,) = client.videos("rejected", columns=["video_id", "reason"])
    assert lost == {"video_id": "lost", "reason": "too_short"}


def test_one_clip_and_what_it_looks_like(client: Client, pyramid: Pyramid) -> None:
    name = ids()["red"]
    known, told = client.clip(name), why(pyramid.uri, name)
    assert known.clip["clip_id"] == name and known.clip["motion"] == 4.0 and known.video == told.videos[0]
    assert [*client.frames(name)] == [frame((10, 30, 240))] * 3 and client.poster(name) == frame((10, 30, 240))
    with pytest.raises(ServiceError, match="no sample frames"):
        next(client.frames("0" * 32))
    assert client.history("lost.mp4") == why(pyramid.uri, "lost.mp4")
    video = client.video("video2")
    assert video.video == why(pyramid.uri, "video2").videos[0] and len(video.clips) == 6 and not video.more
    assert client.health() and client.ready()


def test_numbers(client: Client, pyramid: Pyramid) -> None:
    assert client.histogram("motion", bins=5, kind="video") == histogram(
        pyramid.query().where(kind="video"), "motion", 5
    )
    assert client.columns().scores == pyramid.scores
    held, found = census(pyramid), client.outcomes()
    assert (found.videos, found.reasons) == apart(held.videos) and found.clips == held.clips and found.cut == held.cut
    assert (
        client.stats(tier="moving", motion=(None, 5))
        == stats(Request(pyramid.uri, ("--motion", "..5"), "moving")).stats
    )
    assert list(client.runs())[::-1] == seen(pyramid.uri) and client.run("1run").run.exit == 2


def test_runs_come_page_by_page(client: Client, pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.client.client.MOST_ROWS", 2)
    assert list(client.runs())[::-1] == seen(pyramid.uri)


def test_a_search_by_words_by_a_clip_and_by_a_picture(client: Client) -> None:
    for found in (
        client.search("red", space="colours", limit=2, columns=["clip_id"]),
        client.search(image=frame((10, 30, 240)), space="colours", limit=2, columns=["clip_id"]),
    ):
        assert found.rows["clip_id"].to_pylist() == [ids()["red"], ids()["purple"]] and found.space.name == "colours"
    assert client.search(like=ids()["red"], limit=1).rows["clip_id"].to_pylist() == [ids()["purple"]]


def test_thresholds_that_are_tried_and_moved(client: Client, pyramid: Pyramid) -> None:
    assert client.tiers() == table(pyramid.refreshed())
    tried = client.tried({"moving": {"motion": (5, None)}})
    assert tried == tuple(tier_report(pyramid, pyramid.tiers.moved("moving", "motion", Range(5.0))))
    moved = client.move("moving", {"motion": (5, None)})
    assert moved.rows == tried and moved.changed and moved.moved
    back = client.move("moving", {"motion": (3, None)})
    assert not back.moved and back.changed == moved.changed
    with pytest.raises(ServiceError, match="no range of its own for jitter") as told:
        client.move("moving", {"jitter": None})
    assert told.value.field == "moving.jitter" and told.value.status == 422


def test_what_waits_comes_back_from_its_counts() -> None:
    waiting = Waiting({"motion": 1, "own": 2}, 3, {"dense": 4}, {"clip": 5})
    assert Waiting.of(waiting.as_data()) == waiting and Waiting.of(Waiting({}, 0).as_data()) == Waiting({}, 0)


def test_what_the_service_refuses_names_the_field(client: Client) -> None:
    with pytest.raises(ServiceError, match="motion") as told:
        client.clips(motion="fast").to_table()
    assert told.value.field == "motion"
    for column in ("after", "bins"):
        with pytest.raises(UserError, match="something else than a column"):
            client.clips({column: 1})
    with pytest.raises(UserError, match="is no condition"):
        client.clips(motion=object())


def test_no_parameter_of_a_route_is_taken_for_a_column() -> None:
    """What the client refuses as a column's name is what the service gives another meaning."""
    assert shapes.RESERVED is wire.RESERVED
    assert conditions.given({"motion": (1, 8), "width": 1280, "a": None, "b": "x", "c": (None, 0.5)}) == {
        "motion": "1..8", "width": "1280", "a": "null", "b": "x", "c": "..0.5"
    }  # fmt: skip


def test_the_example_of_the_docs(
    pyramid: Pyramid, address: str, token: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (example,) = re.findall(r"^    from ziggurat import Client\n(?:(?:    .*)?\n)+", DOCS.read_text(), re.MULTILINE)
    code = "\n".join(line.removeprefix("    ") for line in example.splitlines())
    assert code.count("http://127.0.0.1:8470") == 1
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ZIGGURAT_TOKEN", token)
    scope: dict[str, object] = {}
    exec(code.replace("http://127.0.0.1:8470", address), scope)
    assert hashlib.sha256((tmp_path / "best.mp4").read_bytes()).hexdigest() == media_of(pyramid, scope["best"])
    assert (tmp_path / "like.jpg").read_bytes() == b"2", "the middle one of its sample frames"


def media_of(pyramid: Pyramid, clip_id: object) -> str:
    (row,) = pyramid.query().where(clip_id=clip_id).to_table().to_pylist()
    return row["media"]
