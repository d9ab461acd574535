"""Stages without Ray: plain callables, and what they make of trouble."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.contract import Clip, Reason, Source, Status, Verdict
from curation.filters.base import NO_SAMPLES, ScoreValue
from curation.identity import content_id, older_clip_id
from curation.inputs import own_columns
from curation.inputs.sources import list_sources
from curation.media.plan import Encode, Limits, MediaPlan, Rules
from curation.media.sandbox.sandbox import Cuts, VideoMeasure
from curation.pyramid.history.failures import PASSING, kind
from curation.pyramid.history.ledger import Known
from curation.pyramid.storage.files import Files
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown import tombstones
from curation.pyramid.tiering.tiers import Tier, Tiers
from pipelines.execution.attempts import Attempts
from pipelines.execution.coordinator import Coordinator
from pipelines.stages.base import Claim, Divisible
from pipelines.stages.cut import CutStage
from pipelines.stages.measure import Measure, MeasureStage
from pipelines.stages.results import CutOrder, MeasureDone, Place, SameContent, batch_of, fault_of
from pipelines.stages.score import SampledClips, Score, Unscored
from tests.support import images, media
from tests.support.measuring import as_clips, measured


class Claims:
    """The ledger of a pyramid that knows nothing, and a coordinator without an actor."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def known(self, video_id: str) -> Known | None:
        return None

    def stale(self, video_id: str) -> tuple[str, ...]:
        return ()

    def clips(self, video_id: str) -> frozenset[str]:
        return frozenset()

    def claim(self, video_id: str, uri: str) -> tuple[Claim, int]:
        return self._coordinator.claim(video_id, uri)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(Pyramid.create(tmp_path / "p", Tiers((Tier("a"),)), "test").uri)


def measuring(place: Place, coordinator: Coordinator) -> Measure:
    return MeasureStage(
        place, MediaPlan(), Limits(memory_mb=1024), "job", {"text_area": "why"}, lambda: Claims(coordinator)
    )()


def source(path: Path) -> Source:
    (found,) = list_sources([str(path)])
    assert isinstance(found, Source)
    return found


def silent(item: str, frames: int) -> None:
    pass


def test_the_same_bytes_are_measured_once(place: Place, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    shutil.copy(media.sample("plain.mp4"), copy)
    stage = measuring(place, Coordinator(attempts=2))
    first, second = stage(source(media.sample("plain.mp4")), silent), stage(source(copy), silent)
    assert isinstance(first, MeasureDone)
    assert first.clips is not None
    assert first.clips["text_area_why"].to_pylist() == ["why"]
    assert isinstance(second, SameContent)
    assert second.video_id == first.video["video_id"]


def test_the_caption_of_a_list_goes_to_all_clips_and_its_columns_to_the_video(place: Place) -> None:
    said = own_columns.packed({"caption": "a test card", "label": 7})
    done = measuring(place, Coordinator(attempts=2))(replace(source(media.sample("plain.mp4")), extra=said), silent)
    assert isinstance(done, MeasureDone)
    assert done.clips is not None
    assert done.video["extra"] == said
    assert set(done.clips["caption"].to_pylist()) == {"a test card"}
    assert set(done.clips["caption_by"].to_pylist()) == {"given"}


def test_an_image_stays_one_whichever_of_its_names_is_measured_again(place: Place, tmp_path: Path) -> None:
    path = images.save(tmp_path / "x.png", images.picture(64, 48))
    shutil.copy(path, tmp_path / "download")
    known = Known(Status.DONE, "another plan", (str(path),), 1, 1, 1)

    class Knows(Claims):
        def known(self, video_id: str) -> Known | None:
            return known

    again = MeasureStage(
        place, MediaPlan(), Limits(memory_mb=1024), "job", {}, lambda: Knows(Coordinator(attempts=2))
    )()(source(tmp_path / "download"), silent)
    assert isinstance(again, MeasureDone) and again.clips is not None
    assert (again.video["status"], again.clips["kind"].to_pylist()) == ("done", ["image"])
    unheard = measuring(place, Coordinator(attempts=2))(source(tmp_path / "download"), silent)
    assert isinstance(unheard, MeasureDone) and unheard.video["reason"] == "unsupported_format"


def test_a_video_that_is_measured_again_without_its_list_keeps_its_caption(place: Place) -> None:
    """Under another plan, from a folder: the clips are new, and the ledger still has what the list said."""
    said = own_columns.packed({"text": "a test card"})
    known = Known(Status.DONE, "another plan", (), 1, 1, 1, extra=said)

    class Knows(Claims):
        def known(self, video_id: str) -> Known | None:
            return known

    stage = MeasureStage(
        place, MediaPlan(), Limits(memory_mb=1024), "job", {}, lambda: Knows(Coordinator(attempts=2))
    )()
    done = stage(source(media.sample("plain.mp4")), silent)
    assert isinstance(done, MeasureDone)
    assert done.clips is not None
    assert set(done.clips["caption"].to_pylist()) == {"a test card"}


def test_a_clip_that_has_an_id_of_the_older_form_keeps_it(place: Place) -> None:
    """Measured again under its plan, a video of an older pyramid meets its rows; what it never had gets today's id."""
    plan, path = MediaPlan(), media.sample("plain.mp4")
    fresh = measuring(place, Coordinator(attempts=2))(source(path), silent)
    assert isinstance(fresh, MeasureDone) and fresh.clips is not None
    video_id = fresh.video["video_id"]
    spans = zip(fresh.clips["start_frame"].to_pylist(), fresh.clips["end_frame"].to_pylist(), strict=True)
    older = [older_clip_id(video_id, start, end, plan.fingerprint) for start, end in spans]
    assert all(name.startswith(video_id[:12]) for name in fresh.clips["clip_id"].to_pylist())

    class Knows(Claims):
        def known(self, video_id: str) -> Known | None:
            return Known(Status.DONE, plan.fingerprint, (), 1, len(older), 1)

        def stale(self, video_id: str) -> tuple[str, ...]:
            return ("motion",)

        def clips(self, video_id: str) -> frozenset[str]:
            return frozenset(older)

    stage = MeasureStage(place, plan, Limits(memory_mb=1024), "job", {}, lambda: Knows(Coordinator(attempts=2)))()
    again = stage(source(path), silent)
    assert isinstance(again, MeasureDone) and again.clips is not None
    assert again.clips["clip_id"].to_pylist() == older
    batch = batch_of(again)
    assert again.refreshed and batch is not None and batch.videos is None
    (update,) = batch.video_updates
    assert not {"status", "fingerprint", "clips"} & {*update.column_names}, "it settles nothing again"
    assert {"tried", "detail"} <= {*update.column_names}, "what an attempt in vain had left goes"


def test_other_clips_under_the_same_plan_take_the_place_of_those_that_were(place: Place) -> None:
    """Another version made them. Else they would be stale for ever."""

    class Knows(Claims):
        def known(self, video_id: str) -> Known | None:
            return Known(Status.DONE, MediaPlan().fingerprint, (), 1, 1, 1)

        def stale(self, video_id: str) -> tuple[str, ...]:
            return ("motion",)

        def clips(self, video_id: str) -> frozenset[str]:
            return frozenset({"0" * 32})

    limits = Limits(memory_mb=1024)
    stage = MeasureStage(place, MediaPlan(), limits, "job", {}, lambda: Knows(Coordinator(attempts=2)))()
    done = stage(source(media.sample("plain.mp4")), silent)
    assert isinstance(done, MeasureDone) and done.clips is not None
    assert (done.refreshed, done.replaces) == (False, True) and done.samples is not None
    batch = batch_of(done)
    assert batch is not None and [*batch.replaced.values()] == [done.clips["clip_id"].to_pylist()]


def test_a_source_that_loses_its_worker_each_time_is_given_up(place: Place) -> None:
    coordinator = Coordinator(attempts=1)
    here = source(media.sample("plain.mp4"))
    measuring(place, coordinator)(here, silent)  # a worker that claimed it and then was lost
    done = measuring(place, coordinator)(here, silent)
    assert isinstance(done, MeasureDone)
    assert (done.video["reason"], done.video["status"]) == (Reason.WORKER_LOST, "quarantined")
    assert (done.video["measured"], done.video["attempts"]) == (1.0, 1)


def test_attempts_are_those_that_were_made() -> None:
    coordinator = Coordinator(attempts=2)
    assert [coordinator.claim("v", "/a") for _ in range(4)] == [
        (Claim.GO, 1),
        (Claim.GO, 2),
        (Claim.EXHAUSTED, 2),
        (Claim.EXHAUSTED, 2),
    ]
    assert coordinator.claim("v", "/b") == (Claim.TAKEN, 2)


def test_a_file_that_changes_while_it_is_measured_is_not_taken(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    shutil.copy(media.sample("plain.mp4"), path)
    stage = measuring(place, Coordinator(attempts=2))

    def rewrite(item: str, frames: int) -> None:
        os.utime(path, (frames, frames))  # the first report comes before the file is hashed

    done = stage(source(path), rewrite)
    assert isinstance(done, MeasureDone)
    assert done.clips is None
    assert done.video["reason"] == Reason.UNREADABLE


CHANGES = {"emptied": lambda path: path.write_bytes(b""), "removed": lambda path: path.unlink()}


@pytest.mark.parametrize("how", CHANGES)
def test_what_is_found_in_a_file_that_has_changed_is_not_said_of_the_bytes_before(
    place: Place, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "v.mp4"
    shutil.copy(media.sample("plain.mp4"), path)
    stage = measuring(place, Coordinator(attempts=2))
    real = stage._sandbox.measure

    def late(*given: Any) -> VideoMeasure:
        CHANGES[how](path)
        return real(*given)

    stage._sandbox.measure = late  # type: ignore[method-assign]
    done = stage(source(path), silent)
    assert isinstance(done, MeasureDone)
    assert (done.video["video_id"], done.video["reason"]) == (VIDEO, Reason.UNREADABLE)


@pytest.mark.parametrize(("rule", "goes"), [(Rules(), False), (Rules(min_duration_s=1000), True)])
def test_clips_of_another_plan_go_only_where_their_video_was_judged(
    place: Place, tmp_path: Path, rule: Rules, goes: bool
) -> None:
    class Knows(Claims):
        def known(self, video_id: str) -> Known | None:
            return Known(Status.DONE, "another plan", (), 1, 3, 1)

    def rewrite(item: str, frames: int) -> None:
        if not goes:
            os.utime(path, (frames, frames))

    path, plan = tmp_path / "v.mp4", MediaPlan(rules=rule)
    shutil.copy(media.sample("plain.mp4"), path)
    settings = MeasureStage(place, plan, Limits(memory_mb=1024), "job", {}, lambda: Knows(Coordinator(attempts=2)))
    done = settings()(source(path), rewrite)
    assert isinstance(done, MeasureDone) and done.clips is None
    assert (done.video["status"], done.replaces) == (("rejected" if goes else "quarantined"), goes)


def test_cutting_takes_the_bytes_that_were_measured_or_none(place: Place, tmp_path: Path) -> None:
    path = media.sample("plain.mp4")
    clips = tuple(as_clips(measured(path)))
    stage = CutStage(place, Encode(preset="ultrafast"), Limits(memory_mb=1024))()
    other = stage(CutOrder("0" * 32, (source(path),), clips, MediaPlan()), silent)
    assert other.cut == ()
    assert "other bytes" in other.failed[clips[0].clip_id]
    gone = stage(CutOrder("0" * 32, (Source(str(tmp_path / "gone.mp4"), 1),), clips, MediaPlan()), silent)
    assert gone.failed[clips[0].clip_id].startswith(Reason.UNREADABLE)


@pytest.mark.parametrize("how", CHANGES)
def test_a_clip_that_was_not_cut_for_its_file_has_changed_is_tried_again(
    place: Place, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "v.mp4"
    shutil.copy(media.sample("plain.mp4"), path)
    clips = tuple(as_clips(measured(path)))
    stage = CutStage(place, Encode(preset="ultrafast"), Limits(memory_mb=1024))()
    real = stage._sandbox.cut

    def late(*given: Any) -> Cuts:
        CHANGES[how](path)
        return real(*given)

    stage._sandbox.cut = late  # type: ignore[method-assign]
    done = stage(CutOrder(VIDEO, (source(path),), clips, MediaPlan()), silent)
    assert done.cut == () and {kind(why) for why in done.failed.values()} == {PASSING}


class Late:
    """The sandbox of a stage whose video is taken down while it is worked on."""

    def __init__(self, inner: Any, place: Place) -> None:
        self._inner, self._place = inner, place

    def __getattr__(self, name: str) -> Any:
        tombstones.add(Files(self._place.uri), [VIDEO])
        return getattr(self._inner, name)


VIDEO = content_id(media.sample("plain.mp4").open("rb"))[0]


def files(place: Place) -> list[Path]:
    return [path for path in Path(place.uri).rglob("*") if path.is_file() and path.parent.name == "data"]


@pytest.mark.parametrize("late", [False, True])
def test_what_is_taken_down_is_neither_measured_nor_cut(place: Place, late: bool) -> None:
    here, clips = source(media.sample("plain.mp4")), tuple(as_clips(measured(media.sample("plain.mp4"))))
    stages: list[Any] = [
        measuring(place, Coordinator(attempts=2)),
        CutStage(place, Encode(preset="ultrafast"), Limits(memory_mb=1024))(),
    ]
    for stage, item in zip(stages, (here, CutOrder(VIDEO, (here,), clips, MediaPlan())), strict=True):
        if late:
            Files(place.uri).remove_folder(tombstones.FOLDER)
            stage._sandbox = Late(stage._sandbox, place)
        else:
            tombstones.add(Files(place.uri), [VIDEO])
        done = stage(item, silent)
        assert files(place) == []
        if isinstance(done, MeasureDone):
            assert (done.video["reason"], done.clips, done.samples) == ("taken_down", None, None)
        else:
            assert (done.ticket, set(done.failed.values())) == (None, {"taken_down"})


def test_one_clip_that_cannot_be_cut_does_not_take_its_neighbours(place: Place) -> None:
    from dataclasses import replace

    path = media.sample("scenes.mp4")
    video = measuring(place, Coordinator(attempts=2))(source(path), silent)
    assert isinstance(video, MeasureDone)
    clips = as_clips(measured(path))
    broken = replace(clips[1], clip_id="f" * 32, all_check=0)
    order = CutOrder(video.video["video_id"], (source(path),), (clips[0], broken, clips[2]), MediaPlan())
    done = CutStage(place, Encode(preset="ultrafast"), Limits(memory_mb=1024))()(order, silent)
    assert set(done.cut) == {clips[0].clip_id, clips[2].clip_id}
    assert done.failed["f" * 32].startswith(Reason.OTHER_FRAMES)


@pytest.mark.parametrize("reason", [Reason.CRASHED, Reason.BROKEN])
def test_a_clip_whose_sound_ends_the_decoder_is_kept_without_it(place: Place, reason: Reason) -> None:
    path = media.sample("sound.mp4")
    video = measuring(place, Coordinator(attempts=2))(source(path), silent)
    assert isinstance(video, MeasureDone)
    clips = tuple(as_clips(measured(path)))
    stage = CutStage(place, Encode(preset="ultrafast", sound="aac"), Limits(memory_mb=1024))()
    real = stage._sandbox.cut
    asked: list[str] = []

    def cut(path: Path, name: str, clips: Sequence[Clip], plan: MediaPlan, encode: Encode, *more: Any) -> Cuts:
        asked.append(encode.sound)
        done = real(path, name, clips, plan, encode, *more)
        return done if encode.sound == "drop" else Cuts((), done.tally, Verdict(reason, None, "by the sound"))

    stage._sandbox.cut = cut  # type: ignore[method-assign]
    done = stage(CutOrder(video.video["video_id"], (source(path),), clips, MediaPlan()), silent)
    if reason is Reason.CRASHED:
        assert set(done.cut) == {clip.clip_id for clip in clips} and not done.failed
        assert done.without_sound == dict.fromkeys(done.cut, "decoder_crashed: by the sound")
    else:  # a verdict on the pictures: damaged sound gives none
        assert set(done.failed) == {clip.clip_id for clip in clips} and set(asked) == {"aac"}
        assert not done.without_sound


def test_an_item_that_no_worker_survives_has_a_result_of_its_stage(place: Place) -> None:
    lost = Verdict(Reason.WORKER_LOST, 3.0)
    here = source(media.sample("plain.mp4"))
    settings = MeasureStage(place, MediaPlan(), Limits(), "job", {}, lambda: Claims(Coordinator(1)))
    given_up = settings.give_up(here, lost)
    assert (given_up.video["uris"], given_up.video["reason"]) == ([here.uri], "worker_lost")
    clips = tuple(as_clips(measured(media.sample("scenes.mp4"))))
    order = CutOrder("v", (here,), clips, MediaPlan())
    assert isinstance(order, Divisible)
    assert [part.clips for n in range(len(order)) for part in [order.part(n, n + 1)]] == [(clip,) for clip in clips]
    done = CutStage(place, Encode(), Limits()).give_up(order.part(1, 2), lost)
    assert (done.cut, done.failed) == ((), {clips[1].clip_id: "worker_lost"})
    assert [fault.videos for fault in map(fault_of, (given_up, done)) if fault] == [
        (given_up.video["video_id"],),
        ("v",),
    ]


class Brightness:
    name = "aesthetic"
    scores = ("aesthetic",)
    fingerprint = "brightness-1"

    def measure(self, clips: Sequence[Sequence[np.ndarray]]) -> list[ScoreValue]:
        return [ScoreValue(float(np.mean(c)) if c else None, None if c else NO_SAMPLES) for c in clips]


def test_a_filter_fills_its_column_or_says_why() -> None:
    samples = measured(media.sample("plain.mp4")).clips[0].samples
    scored = Score(Brightness())(SampledClips(("a", "b"), ("v", "v"), (samples, ())), silent)
    rows = scored.table.to_pylist()
    assert rows[0]["aesthetic"] > 10
    assert (rows[0]["aesthetic_by"], rows[0]["aesthetic_why"]) == ("brightness-1", None)
    assert (rows[1]["aesthetic"], rows[1]["aesthetic_by"], rows[1]["aesthetic_why"]) == (None, None, NO_SAMPLES)


@pytest.mark.parametrize("sample", [b"", b"no jpeg", b"\xff\xd8\xff\xe0" + bytes(64)])
def test_a_sample_that_is_no_picture_costs_its_own_clip_only(sample: bytes) -> None:
    good = measured(media.sample("plain.mp4")).clips[0].samples
    item = SampledClips(("a", "b", "c"), ("v", "w", "v"), (good, (good[0], sample), good))
    give_up = Unscored(("aesthetic",), "brightness-1")
    found = list(Attempts(Score(Brightness()), Coordinator(1), 2, give_up, None)("key", item, silent))
    rows = {row["clip_id"]: row for scored in found for row in scored.table.to_pylist()}
    assert [rows[clip]["aesthetic_why"] for clip in "ac"] == [None, None]
    assert rows["b"]["aesthetic"] is None
    assert rows["b"]["aesthetic_by"] == "brightness-1", "the next run leaves it alone"
    assert rows["b"]["aesthetic_why"] == "internal_error: SampleError: a sample frame cannot be decoded"
