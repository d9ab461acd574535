"""The captioning stage: each clip of an item is in one result, under its own name, whatever a captioner does."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.caption.base import Asked, Left, Said
from curation.caption.prompts import Prompt
from curation.contract import Reason, Verdict
from curation.errors import UserError
from pipelines.execution.cluster import Resources
from pipelines.execution.ray_data import Delivery, StageSpec, pool_size
from pipelines.execution.results.account import Account
from pipelines.execution.results.breaker import Breaker
from pipelines.stages import caption as stage_module
from pipelines.stages.caption import Caption, CaptionStage
from pipelines.stages.pictures import ClipsToCaption, ClipToCaption, PicturedClips, PicturesStage
from pipelines.stages.results import Captioned, batch_of, fault_of, progress, units

PROMPT = Prompt("p", 1, "ask", length="It lasts {value} s.")
FRAME = cv2.imencode(".jpg", np.zeros((64, 96, 3), np.uint8))[1].tobytes()


@dataclass
class Frames:
    """Stands in for a pyramid: the sample frames of each clip."""

    of: dict[str, list[bytes]]

    def samples(self, clip_ids: list[str]) -> Iterator[tuple[str, list[bytes]]]:
        return ((name, self.of[name]) for name in clip_ids if name in self.of)


@dataclass
class Talker:
    """A captioner that answers in another order than it was asked. `whys`: of clips that get none; `left`: what the
    budget leaves; `stops`: after so many answers no clip can go on.
    """

    seed: int = 0
    whys: dict[str, str] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    stops: int | None = None
    is_spent: bool = False
    asked: list[Asked] = field(default_factory=list)

    def caption(self, clips: Iterable[Asked]) -> Iterator[Said | Left | None]:
        self.asked = list(clips)
        order = random.Random(self.seed).sample(self.asked, len(self.asked))
        for number, one in enumerate(order):
            if number == self.stops:
                raise UserError("the key is refused", "check it")
            yield None
            if one.clip_id in self.left:
                yield Left(one.clip_id)
                continue
            why = self.whys.get(one.clip_id)
            text = None if why else f"Of {one.clip_id}."
            yield Said(clip_id=one.clip_id, caption=text, why=why, tokens_in=10, tokens_out=1, usd=0.5)

    def close(self) -> None:
        pass


def quiet(item: str, frames: int) -> None:
    pass


def item(names: Iterable[str]) -> ClipsToCaption:
    return ClipsToCaption(tuple(ClipToCaption(name, f"video of {name}", 2.0, 1.0) for name in names))


def stage(talker: Talker, frames: dict[str, list[bytes]], **more: Any) -> Caption:
    return CaptionStage("dense", "dense/m/1", lambda: talker, PicturesStage(Frames(frames), PROMPT, 3, 64, **more))()


def told(results: Iterable[Captioned]) -> dict[str, tuple[str | None, str | None]]:
    """Caption and reason of each clip, seen to be in one result and in both of its tables."""
    found: dict[str, tuple[str | None, str | None]] = {}
    for result in results:
        if result.clips is None:
            continue
        assert result.rows is not None and len(result) == len(result.videos)
        for row, beside, video in zip(result.clips.to_pylist(), result.rows.to_pylist(), result.videos, strict=True):
            assert row["clip_id"] == beside["clip_id"] not in found and video == f"video of {row['clip_id']}"
            assert row["caption_by"] == beside["by"] == "dense/m/1"
            found[row["clip_id"]] = row["caption"], row["caption_why"]
    return found


WHYS = ["unreadable: HTTP 500", "timed_out: no answer", "caption_loops: x", "request_refused: HTTP 400"]


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.sampled_from([None, "left", *WHYS]), min_size=1),
    st.integers(0, 99),
)
def test_each_clip_is_in_one_result_under_its_own_name(fates: dict[str, str | None], seed: int) -> None:
    whys = {name: fate for name, fate in fates.items() if fate in WHYS}
    talker = Talker(seed, whys, {name for name, fate in fates.items() if fate == "left"})
    results = list(_Bare(talker).stream(item(fates), quiet))
    assert told(results) == {
        name: (None, whys[name]) if name in whys else (f"Of {name}.", None) for name in fates if name not in talker.left
    }
    assert sum(result.left for result in results) == len(talker.left)
    account = Account()
    for result in results:
        account.add(result)
        assert (fault_of(result) is None) == (result.fault is None)
    lost = {name for name, why in whys.items() if not why.startswith("caption_")}
    assert sum(account.captions_lost.values()) == len(lost)
    assert sum(account.captioned.values()) + sum(account.not_captioned.values()) == len(fates) - len(lost | talker.left)
    assert account.exit_code == (1 if lost else 0)


class _Bare(Caption):
    """The stage without a decoder: pictures are asked as they are."""

    def __init__(self, talker: Talker) -> None:
        super().__init__(CaptionStage("dense", "dense/m/1", lambda: talker), talker)

    def _asked(self, item: ClipsToCaption | PicturedClips, held: list[Said]) -> Iterator[Asked]:
        return (Asked(clip.clip_id, ()) for clip in item.clips)


def test_a_clip_without_sound_sample_frames_gets_its_reason_and_the_others_are_captioned() -> None:
    talker = Talker()
    made = stage(talker, {"a": [FRAME] * 3, "b": [b"no picture"], "c": []}, cues=True)
    found = told(made.stream(item("abcd"), quiet))
    made.close()
    assert found["a"] == ("Of a.", None) and found["c"] == found["d"] == (None, "no sample frames")
    assert found["b"][1] is not None and found["b"][1].startswith("internal_error: SampleError")
    (asked,) = talker.asked
    assert len(asked.pictures) == 3 and asked.cues == ("It lasts 2.0 s.",)


def test_pictures_made_in_a_stage_before_are_asked_with_and_what_has_none_keeps_its_reason() -> None:
    look = PicturesStage(Frames({"a": [FRAME] * 3, "b": [b"no picture"]}), PROMPT, 2, 32, cues=True)()
    seen = look(item("abc"), quiet)
    look.close()
    assert len(seen) == 3 and seen.part(1, 3).clips == item("bc").clips
    talker = Talker()
    made = CaptionStage("dense", "dense/m/1", lambda: talker)()
    found = told(made.stream(seen, quiet))
    made.close()
    assert found["a"] == ("Of a.", None) and found["c"] == (None, "no sample frames")
    assert (found["b"][1] or "").startswith("internal_error: SampleError")
    (asked,) = talker.asked
    assert len(asked.pictures) == 2 and asked.cues == ("It lasts 2.0 s.",)
    picture = cv2.imdecode(np.frombuffer(asked.pictures[0], np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None and picture.shape == (21, 32, 3)


def test_answers_are_results_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_module, "HOLD_CLIPS", 2)
    assert [len(result) for result in _Bare(Talker()).stream(item("abcde"), quiet)] == [2, 2, 1]


def test_what_has_come_is_kept_where_no_clip_can_go_on() -> None:
    results: list[Captioned] = []
    stream = _Bare(Talker(stops=2)).stream(item("abcd"), quiet)
    with pytest.raises(UserError, match="refused"):
        results.extend(one for one in stream if results.append(one))
    assert len(told(results)) == 2


def test_a_budget_that_is_used_up_leaves_all_and_writes_nothing() -> None:
    (result,) = _Bare(Talker(is_spent=True)).stream(item("abc"), quiet)
    assert (result.left, batch_of(result), progress(result), units(item("abc"))) == (3, None, (3, 0), 3)
    account = Account(captions_left=type(Account().captions_left)({"dense": 3}))
    assert account.exit_code == 1 and account.left_undone == {"captions: dense": 3} and not account.losses


def test_clips_that_cost_their_workers_are_given_up_as_lost() -> None:
    settings = CaptionStage("dense", "dense/m/1", Talker)
    result = settings.give_up(item("ab"), Verdict(Reason.WORKER_LOST, 3.0))
    assert told([result]) == {"a": (None, "worker_lost"), "b": (None, "worker_lost")} and result.fault == "worker_lost"


def test_one_cause_at_video_after_video_stops_the_run() -> None:
    breaker = Breaker(3)
    stream = list(_Bare(Talker(whys={"b": WHYS[0], "c": WHYS[0]})).stream(item("abc"), quiet))
    assert {name for one in stream for d in breaker.admit(Delivery(one)) for name in told([d.result])} == {"a"}
    (result,) = _Bare(Talker(whys={"d": WHYS[0]})).stream(item("d"), quiet)
    with pytest.raises(UserError, match="3 videos in a row failed for one cause: unreadable: HTTP 500"):
        breaker.admit(Delivery(result))


def test_what_a_captioner_tells_is_kept_beside_the_caption() -> None:
    (result,) = _Bare(Talker()).stream(item("a"), quiet)
    batch = batch_of(result)
    assert batch is not None and batch.captions and batch.clip_updates == [result.clips]
    detail = json.loads(batch.captions[0]["detail"][0].as_py())
    assert (detail["tokens_in"], detail["tokens_out"], detail["usd"]) == (10, 1, 0.5)
    account = Account()
    account.add(result)
    assert (dict(account.caption_tokens), account.caption_usd) == ({"in": 10, "out": 1}, 0.5)


def test_a_block_has_one_worker_however_many_the_machine_has_room_for() -> None:
    spec = StageSpec("caption dense", lambda: lambda item, report: item, workers=1)
    assert pool_size(spec, 1, Resources(64.0, 0.0, 1), 1000) == 1
