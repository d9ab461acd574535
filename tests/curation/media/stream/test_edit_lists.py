"""Edit lists of MP4: what they leave out, or show nothing in place of, is not missing; what the file lacks is."""

from __future__ import annotations

from pathlib import Path

import pytest

from curation.contract import Reason
from curation.media.plan import ClipPlan, MediaPlan, Rules
from curation.media.probe import Unfit, open_media, timeline_of
from curation.media.stream.timeline import Timeline
from tests.support import numbered
from tests.support.edits import NOTHING, edited
from tests.support.measuring import as_clips, cuts, measured
from tests.support.numbered import KINDS, Kind

PLAN = MediaPlan(
    rules=Rules(banned_profiles=(), min_fps=5, min_bpp=0, min_duration_s=0.2), clips=ClipPlan(min_s=0.4, max_s=8)
)
EDITS = {
    "all": [(8.0, 0.0)],
    "more than there is": [(30.0, 0.0)],
    "nothing at the start": [(2.0, NOTHING), (8.0, 0.0)],
    "nothing at the start, then a part": [(5.0, NOTHING), (3.0, 0.0)],
    "nothing at the start, then from the middle": [(0.5, NOTHING), (3.0, 2.48)],
    "much nothing": [(600.0, NOTHING), (4.0, 0.0)],
    "the middle": [(3.0, 2.48)],
    "two parts": [(2.4, 0.0), (2.0, 5.0)],
    "two parts in the other order": [(2.0, 4.4), (2.4, 0.0)],
    "twice the same": [(3.0, 0.0), (3.0, 0.0)],
}


@pytest.fixture(scope="module", params=[0, 3])
def mp4(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """200 pictures, without and with reordering; the table of packets stands before them."""
    extra = ("-bf", str(request.param), "-use_editlist", "1", "-movflags", "+faststart")
    path = tmp_path_factory.mktemp("edits") / "whole"
    return numbered.write(path, Kind(".mp4", (*KINDS["mp4"].encode, *extra)), 200, ()).read_bytes()


def timeline(path: Path) -> Timeline:
    with open_media(path) as (container, stream):
        return timeline_of(path, container, stream, lambda packets: None)


@pytest.mark.parametrize("name", EDITS)
def test_what_an_edit_list_leaves_out_is_not_missing(name: str, mp4: bytes, tmp_path: Path) -> None:
    path = tmp_path / "edited.mp4"
    path.write_bytes(edited(mp4, EDITS[name]))
    found = timeline(path)
    shown = numbered.numbers(path)
    assert found.packets == found.announced == found.pictures == len(shown)
    clips = as_clips(measured(path, PLAN))
    made = [number for data in cuts(path, clips, PLAN)[0] for number in numbered.numbers(data)]
    assert made == shown


@pytest.mark.parametrize("name", EDITS)
def test_what_a_file_lacks_is_missing_whatever_its_edit_list(name: str, mp4: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut short.mp4"
    path.write_bytes(edited(mp4, EDITS[name]))
    shown = timeline(path).packets
    path.write_bytes(path.read_bytes()[: len(mp4) // 4])
    found = timeline(path)
    assert found.announced == shown
    assert found.packets < shown
    with pytest.raises(Unfit) as caught:
        measured(path, PLAN)
    assert caught.value.verdict.reason in (Reason.BROKEN, Reason.NO_FRAMES)
