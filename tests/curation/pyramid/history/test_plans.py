"""Plans come back from a pyramid as they went in, or not at all."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.media.plan import ClipPlan, MediaPlan, Rules, ShotPlan
from curation.pyramid.history import plans
from curation.pyramid.storage.files import Files

PLANS = st.builds(
    MediaPlan,
    st.builds(Rules, min_fps=st.integers(0, 60) | st.floats(0, 60), banned_profiles=st.tuples(st.text())),
    st.builds(ShotPlan, st.sampled_from(["scene", "transnet"]), st.dictionaries(st.text(), st.floats(0, 1))),
    st.builds(ClipPlan, max_s=st.floats(2, 100) | st.integers(2, 100), remove_borders=st.booleans()),
    st.sampled_from(["none", "cuda"]),
)


@given(PLANS)
def test_a_plan_survives_json_with_its_fingerprint(plan: MediaPlan) -> None:
    again = plans.from_json(plans.to_json(plan))
    assert again == plan and again.fingerprint == plan.fingerprint


def test_a_plan_is_kept_once_under_its_fingerprint(tmp_path: Path) -> None:
    files, plan = Files(str(tmp_path)), MediaPlan(clips=ClipPlan(max_s=5.0))
    plans.keep(files, plan)
    before = (tmp_path / "plans" / f"{plan.fingerprint}.json").stat().st_mtime_ns
    plans.keep(files, replace(plan, hwaccel="cuda"))  # decodes elsewhere, finds the same
    assert (tmp_path / "plans" / f"{plan.fingerprint}.json").stat().st_mtime_ns == before
    assert plans.load(files, plan.fingerprint) == plan


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"clips": {"max_s": 3.0}}'])
def test_a_plan_that_is_damaged_is_written_again(tmp_path: Path, content: bytes) -> None:
    files, plan = Files(str(tmp_path)), MediaPlan(clips=ClipPlan(max_s=5.0))
    files.write(f"plans/{plan.fingerprint}.json", content)
    plans.keep(files, plan)
    assert plans.load(files, plan.fingerprint) == plan


@pytest.mark.parametrize("change", ["value", "field", "text", "list", "missing", "climbs"])
def test_what_is_not_the_plan_of_that_name_is_none(tmp_path: Path, change: str) -> None:
    files, plan = Files(str(tmp_path)), MediaPlan()
    data = asdict(plan)
    if change == "value":
        data["clips"]["max_s"] = 3.0
    if change == "field":
        data["clips"]["colour"] = "from a later version"
    content = {"text": "{", "list": "[]"}.get(change, json.dumps(data))
    name = "../plan" if change == "climbs" else plan.fingerprint
    files.write("plan.json" if change == "climbs" else f"plans/{name}.json", content.encode())
    assert plans.load(files, "plan-1-00000000" if change == "missing" else name) is None
