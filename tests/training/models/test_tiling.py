"""Cutting an axis, fading tiles together: by hand and by properties, with networks whose answer is known."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from training.models.tiling import Cut, crossfade, tile_plane, tile_time

CUT = Cut.of(8, 8, 0.25)


def video(frames: int, height: int = 4, width: int = 4):
    return torch.randn(1, 2, frames, height, width, generator=torch.Generator().manual_seed(frames + width))


def test_released_settings():
    assert Cut.of(256, 8, 0.25) == Cut(tile=256, stride=192, blend=2, keep=6)
    assert Cut.of(8, 32, 0.25) == Cut(tile=8, stride=6, blend=8, keep=24)


def test_spans_by_hand():
    assert CUT.spans(13) == [(0, 8), (6, 7), (12, 1)]
    assert Cut.of(8, 8, 0.25, least=2).spans(13) == [(0, 8), (6, 7)]
    assert Cut.of(8, 8, 0.25, least=2).spans(14) == [(0, 8), (6, 8), (12, 2)]
    assert Cut.of(8, 8, 0.25, least=2).spans(1) == [(0, 1)]


def test_crossfade_by_hand():
    before, tile = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[10.0, 20.0, 30.0]])
    assert crossfade(before, tile, 2, 1).tolist() == [[3.0, 0.5 * 4 + 0.5 * 20, 30.0]]
    assert crossfade(before, tile[:, :1], 2, 1).tolist() == [[4.0]], "as long as the shorter one, from its first weight"
    assert crossfade(before, tile, 0, 1).tolist() == tile.tolist()


@given(size=st.integers(1, 40), tile=st.sampled_from([4, 8, 12]), least=st.integers(1, 2))
@settings(max_examples=40, deadline=None)
def test_a_network_that_sees_one_position_is_unchanged_by_tiles(size: int, tile: int, least: int):
    cut = Cut.of(tile, tile, 0.25, least)
    x = video(size, height=5, width=size)
    torch.testing.assert_close(tile_time(x, cut, torch.sin), x.sin())
    torch.testing.assert_close(tile_plane(x, cut, torch.sin), x.sin())


def test_time_fades_from_one_tile_to_the_next():
    """Tiles that answer with their number show the weights: 0, 1/2 over a blend of two."""
    numbers = iter(range(3))
    got = tile_time(video(14), CUT, lambda x: torch.full_like(x, float(next(numbers))))
    assert got[0, 0, :, 0, 0].tolist() == [0.0] * 6 + [0.0, 0.5] + [1.0] * 4 + [1.0, 1.5]


def test_a_corner_fades_from_above_first():
    """The order is the public one, and is seen where four tiles meet: above, then left, both finished."""
    numbers = iter([0.0, 1.0, 2.0, 4.0])
    got = tile_plane(video(1, 12, 12), CUT, lambda x: torch.full_like(x, next(numbers)))[0, 0, 0]
    assert got[0, 6:9].tolist() == [0.0, 0.5, 1.0], "the tile at the right over the first"
    assert got[6:9, 0].tolist() == [0.0, 1.0, 2.0], "the tile below over the first"
    above_last = [0.5, (0.5 + 4) / 2]  # at column 7, after the fade with the tile above, itself faded there already
    assert got[6:8, 7].tolist() == [(0.0 + above_last[0]) / 2, (1.0 + above_last[1]) / 2]


def test_one_tile_is_enough_for_what_fits():
    calls = []
    tile_time(video(6), CUT, lambda x: calls.append(x.shape[2]) or x)
    assert calls == [6]
