"""The table: what SDR can show keeps its colours, what it cannot show is brought in, in the same order."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from curation.media.pictures.colour import HLG, PQ
from curation.media.pictures.tone import PEAK, SIDE, WHITE, hald, hlg_light, pq_light, pq_signal, to_709

SDR = 14
P3, BT2020 = 12, 9
KINDS = [(BT2020, PQ), (BT2020, HLG), (BT2020, SDR), (P3, SDR), (P3, PQ), (1, PQ)]
unit = st.floats(0, 1)


def grey(level: float, transfer: int) -> float:
    return float(to_709(np.full((1, 3), level), BT2020, transfer)[0, 1])


def test_published_values_of_the_transfer_functions() -> None:
    # BT.2408, table 1: the diffuse white of 203 cd/m2 is 58 % of PQ and 75 % of HLG.
    assert float(pq_signal(203)) == pytest.approx(0.58, abs=0.002)
    assert float(pq_light(pq_signal(400))) == pytest.approx(400)
    assert float(hlg_light(0.75)) == pytest.approx(0.265, abs=0.001)
    assert float(hlg_light(1.0)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("colour", [(128, 128, 128), (90, 60, 50), (60, 130, 90), (0, 0, 0), (40, 40, 120)])
def test_a_colour_below_the_knee_comes_back_as_it_was(colour: tuple[int, int, int]) -> None:
    light = (np.array([colour]) / 255) ** 2.4
    to_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    back = to_709(np.asarray(pq_signal(light @ to_2020.T * WHITE)), BT2020, PQ) * 255
    assert np.abs(back - colour).max() < 1


def test_white_and_peak() -> None:
    assert 225 < 255 * grey(float(pq_signal(WHITE)), PQ) < 235
    assert grey(float(pq_signal(PEAK)), PQ) == pytest.approx(1, abs=1e-3)
    assert grey(1.0, PQ) == pytest.approx(1, abs=1e-3)
    assert grey(0.0, PQ) == 0 and grey(0.0, HLG) == 0
    assert 225 < 255 * grey(0.75, HLG) < 235
    assert grey(1.0, HLG) > 0.99


@given(unit, unit, unit, st.sampled_from(KINDS))
def test_every_signal_becomes_a_colour_of_a_screen(r: float, g: float, b: float, kind: tuple[int, int]) -> None:
    made = to_709(np.array([[r, g, b]]), *kind)
    assert np.isfinite(made).all() and (made >= 0).all() and (made <= 1 + 1e-9).all()


@given(unit, unit, st.sampled_from(KINDS))
def test_greys_stay_grey_and_in_order(a: float, b: float, kind: tuple[int, int]) -> None:
    low, high = to_709(np.array([[min(a, b)] * 3, [max(a, b)] * 3]), *kind)
    assert np.ptp(low) < 2e-3 and np.ptp(high) < 2e-3
    assert (low <= high + 1e-6).all()


def test_a_colour_outside_the_gamut_is_the_strongest_of_its_kind() -> None:
    pure = to_709(np.array([[0.0, 0.5, 0.0]]), BT2020, PQ)[0]
    assert pure[1] > 0.3 and pure.min() < 0.01


def test_the_table_holds_what_the_formula_says() -> None:
    flat = hald(BT2020, PQ).reshape(-1, 3)
    assert len(flat) == SIDE**3
    red, green, blue = 20, 7, 30
    axis = np.linspace(0, 1, SIDE)
    right = to_709(np.array([[axis[red], axis[green], axis[blue]]]), BT2020, PQ)
    assert np.abs(flat[red + SIDE * green + SIDE * SIDE * blue] / 65535 - right).max() < 1e-4
