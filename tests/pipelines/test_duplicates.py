"""Copies among a pyramid's clips, from stored sample frames to `likeness` and `duplicate_of`, without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from bench.duplicates.copies import bordered, lit, marked
from curation.contract import CLIPS, LIKENESS, embeddings_schema
from curation.embed import signature
from curation.embed.picture import NO_SHAPE
from curation.errors import UserError
from curation.filters.base import NO_SAMPLES
from curation.media.plan import Limits
from curation.pyramid.commits.commit import Batch, Committer
from curation.pyramid.history.failures import PASSING
from curation.pyramid.similar.candidates import Candidates
from curation.pyramid.similar.places import BEST, BY, WHY, Rule
from curation.pyramid.storage.columns import add_scores, add_spaces
from curation.pyramid.storage.fragments import write_samples_fragments
from curation.pyramid.store import Pyramid
from curation.pyramid.tiering.tiers import Range, Tier, Tiers
from curation.spaces import UNEMBEDDED, Space
from pipelines import duplicates
from pipelines.duplicates import Wanted
from pipelines.execution.ray_data import Delivery
from pipelines.execution.results.account import Account
from tests.support.scenes import jpegs, mirrored, scene

PICTURE = Space("picture", signature.WIDTH, "signatures")
RULE = Rule(1.75, ("pixels",), "likeness-1-abc")
WANTED = Wanted(RULE, None, PICTURE, "signature-1")
TIERS = Tiers((Tier("low", {"width": Range(64)}), Tier("high", {"motion": Range(2.0)})))


@pytest.fixture
def pyramid(tmp_path: Path) -> Pyramid:
    made = Pyramid.create(tmp_path / "pyramid", TIERS, "test")
    add_scores(made, [LIKENESS])
    add_spaces(made, [PICTURE])
    return made.having([LIKENESS], [PICTURE])


def add(pyramid: Pyramid, clip_id: str, frames: Sequence[np.ndarray], **row: Any) -> None:
    """A measured clip of a video of its own, unless `row` says otherwise, with its signature."""
    height, width = frames[0].shape[:2] if frames else (180, 320)
    known = {"clip_id": clip_id, "video_id": f"v-{clip_id}", "width": width, "height": height, "motion": 3.0} | row
    kept = jpegs(frames)
    vector = (
        signature.signature([np.asarray(cv2.imdecode(np.frombuffer(one, np.uint8), 1)) for one in kept])
        if kept
        else None
    )
    vectors = [] if vector is None else [signed(clip_id, vector)]
    schema = pa.schema([CLIPS.field(name) for name in known])
    samples = write_samples_fragments(pyramid.uri, [(clip_id, kept)], pyramid.storage_options)
    batch = Batch(samples=[samples], clips=pa.Table.from_pylist([known], schema=schema), embeddings=vectors)
    Committer(pyramid).commit(batch)


def signed(clip_id: str, vector: np.ndarray) -> pa.Table:
    flat = pa.array(vector.astype(np.float16))
    columns = [[clip_id], [PICTURE.name], [WANTED.signed_by], pa.FixedSizeListArray.from_arrays(flat, PICTURE.width)]
    return pa.Table.from_arrays([pa.array(one) for one in columns], schema=embeddings_schema(PICTURE))


def find(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch, size: int = 2000) -> Account:
    """`duplicates.find`, its stage called in this process."""

    def run(items: Iterable[Any], stages: Any, *_: Any) -> Iterator[Delivery]:
        stage = stages[0].make()
        for item in items:
            yield Delivery(stage(item, lambda *_: None))
        stage.close()

    monkeypatch.setattr(duplicates, "run", run)
    monkeypatch.setattr(duplicates, "ROUND", size)
    quiet: Callable[..., Any] = lambda *_: nullcontext()  # noqa: E731
    watch = SimpleNamespace(searching=quiet, over=quiet, expect=lambda _: None, advance=lambda *_: None)
    recipe = SimpleNamespace(limits=Limits(), run=SimpleNamespace(attempts=1))
    account = Account()
    job: Any = SimpleNamespace(
        pyramid=pyramid, recipe=recipe, watch=watch, account=account, resources=None, coordinator=None
    )
    duplicates.find(job, WANTED, [PASSING])
    return account


def rows(pyramid: Pyramid) -> dict[str, dict[str, Any]]:
    columns = ["clip_id", LIKENESS, BY, WHY, BEST]
    return {row["clip_id"]: row for row in pyramid.dataset("clips").to_table(columns=columns).to_pylist()}


def bests(pyramid: Pyramid) -> dict[str, str | None]:
    return {name: row[BEST] for name, row in rows(pyramid).items()}


@pytest.mark.parametrize("size", [3, 2000])
def test_copies_are_found_and_the_largest_stays(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    first = scene(1)
    add(pyramid, "a-half", [cv2.resize(frame, (160, 90), interpolation=cv2.INTER_AREA) for frame in first])
    add(pyramid, "b-whole", first)
    add(pyramid, "c-mirrored", [cv2.resize(frame, (240, 136)) for frame in mirrored(first)])
    add(pyramid, "d-letterbox", [bordered(0.15, 0)(lit(1.2, 0.9)(frame)) for frame in first], width=300, height=100)
    add(pyramid, "e-marked", [marked(frame) for frame in first], width=310)
    for number in range(2, 7):
        add(pyramid, f"other-{number}", scene(number))
    add(pyramid, "one-video-1", scene(9), video_id="v")
    add(pyramid, "one-video-2", scene(9), video_id="v")
    add(pyramid, "an-image", first[:1], kind="image", width=4000)
    account = find(pyramid, monkeypatch, size)
    copies = {name: best for name, best in bests(pyramid).items() if best}
    assert copies == dict.fromkeys(("a-half", "c-mirrored", "d-letterbox", "e-marked"), "b-whole")
    found = rows(pyramid)
    assert all(row[BY] == RULE.by and row[WHY] is None for row in found.values())
    assert all((row[LIKENESS] >= RULE.copy_from) == (name in copies) for name, row in found.items())
    assert account.losses == {} and account.exit_code == 0
    assert find(pyramid, monkeypatch).scored == {}, "nothing is compared twice"


def test_a_better_copy_takes_the_place(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    add(pyramid, "a", scene(1))
    add(pyramid, "b", scene(1), width=300)
    find(pyramid, monkeypatch)
    assert bests(pyramid) == {"a": None, "b": "a"}
    add(pyramid, "large", [cv2.resize(frame, (640, 360)) for frame in scene(1)])
    add(pyramid, "other", scene(2))
    find(pyramid, monkeypatch)
    assert bests(pyramid) == {"a": "large", "b": "large", "large": None, "other": None}


@pytest.mark.parametrize("size", [5, 2000])
def test_of_more_copies_than_candidates_one_stays(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    near = Candidates.of
    monkeypatch.setattr(Candidates, "of", lambda *given: {name: some[:2] for name, some in near(*given).items()})
    for number in range(9):
        frames = [lit(1 + number / 50, 1.0)(frame) for frame in scene(1)]
        add(pyramid, f"v{number:02}-{'x' * 12}", frames, width=200 + number)
    find(pyramid, monkeypatch, size)
    best = f"v08-{'x' * 12}"
    assert {name: one for name, one in bests(pyramid).items() if one != best} == {best: None}
    add(pyramid, f"larger-{'x' * 12}", scene(1), width=640)
    find(pyramid, monkeypatch, size)
    best = f"larger-{'x' * 12}"
    assert {name: one for name, one in bests(pyramid).items() if one != best} == {best: None}


def test_when_the_best_goes_or_leaves_its_tier_another_stands(
    pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, width in (("a", 320), ("b", 310), ("c", 300)):
        add(pyramid, name, scene(1), width=width)
    find(pyramid, monkeypatch)
    assert bests(pyramid) == {"a": None, "b": "a", "c": "a"}
    low = pa.table(
        {"clip_id": ["a"], "motion": pa.array([1.0], pa.float32()), "motion_by": ["m"], "motion_why": [None]}
    )
    low = low.cast(pa.schema([CLIPS.field(name) for name in low.column_names]))
    Committer(pyramid).commit(Batch(clip_updates=[low]))
    find(pyramid, monkeypatch)
    assert bests(pyramid) == {"a": "b", "b": None, "c": "b"}
    pyramid.dataset("clips").delete("clip_id = 'b'")
    find(pyramid, monkeypatch)
    assert bests(pyramid) == {"a": "c", "c": None}


def unembedded(clip_id: str, why: str) -> pa.Table:
    row = {"clip_id": clip_id, "space": PICTURE.name, "by": WANTED.signed_by, "why": why}
    return pa.Table.from_pylist([row], schema=UNEMBEDDED)


def test_what_cannot_be_compared_says_why_and_is_tried_again_where_that_may_help(
    pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(pyramid, "a", scene(1))
    add(pyramid, "black", [])
    add(pyramid, "empty", [])
    Committer(pyramid).commit(Batch(unembedded=[unembedded("black", NO_SHAPE), unembedded("empty", NO_SAMPLES)]))
    add(pyramid, "unsigned", scene(1), width=300)
    pyramid.dataset("embeddings/picture").delete("clip_id = 'unsigned'")
    account = find(pyramid, monkeypatch)
    found = rows(pyramid)
    assert {name: (row[LIKENESS], row[WHY]) for name, row in found.items()} == {
        "a": (0.0, None),
        "black": (0.0, None),
        "empty": (None, NO_SAMPLES),
        "unsigned": (None, "unreadable: it has no signature"),
    }
    assert account.losses == {"scores: likeness: unreadable": 1} and account.exit_code == 1
    Committer(pyramid).commit(Batch(embeddings=[signed("unsigned", signature.signature(scene(1)))]))
    assert find(pyramid, monkeypatch).exit_code == 0
    assert bests(pyramid)["unsigned"] == "a"


def test_parts_of_one_video_leave_room_for_copies_of_others(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    """A take with a still camera, in parts; and a copy of one of them that is less like it than they are."""
    for number in range(14):
        add(pyramid, f"onelongvideo-{number:02}", scene(1), video_id="long")
    add(pyramid, "copyofthevideo", [marked(frame) for frame in scene(1)], width=300)
    find(pyramid, monkeypatch)
    assert [name for name, best in bests(pyramid).items() if best] == ["copyofthevideo"]


def test_a_takedown_that_has_not_ended_is_finished_first(pyramid: Pyramid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates.tombstones, "is_pending", lambda _: True)
    with pytest.raises(UserError, match="a takedown has not ended"):
        find(pyramid, monkeypatch)
