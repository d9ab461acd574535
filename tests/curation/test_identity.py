from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from curation.identity import FAMILY, clip_id, older_clip_id

IDS = st.text("0123456789abcdef", min_size=32, max_size=32)
PLACES = st.tuples(IDS, st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(["a", "b"]))


@given(PLACES)
def test_a_clips_id_is_hex_and_begins_as_its_videos(place: tuple[str, int, int, str]) -> None:
    for name in (clip_id(*place), older_clip_id(*place)):
        assert len(name) == 32 and set(name) <= set("0123456789abcdef")
    assert clip_id(*place)[:FAMILY] == place[0][:FAMILY]


@given(PLACES, PLACES)
def test_two_clips_have_two_ids(one: tuple[str, int, int, str], two: tuple[str, int, int, str]) -> None:
    assert (clip_id(*one) == clip_id(*two)) == (one == two)
