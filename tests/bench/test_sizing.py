"""Sizing on paper: it follows from the rates, and the rates from what was measured."""

from __future__ import annotations

from typing import Any

import pytest

from bench import sizing
from bench.sizing import Prices, Rates, Source


def measured() -> dict[str, Any]:
    """A result of `bench.curate` that is easy to reckon with."""

    def run(copies: int, driver: float) -> dict[str, Any]:
        by = {"driver": driver, "coordinator": 1.0 * copies, "decoder child": 99.0}
        return {"preset": "medium", "share": "all", "copies": copies, "cost": {"cpu_by": by}}

    return {
        "videos": 10,
        "clip_seconds": 100.0,
        "heights": [
            {"height": 720, "frames": 1000, "decode_s": 2.0, "measure_s": 3.0},
            {"height": 360, "frames": 1000, "decode_s": 99.0, "measure_s": 99.0},
        ],
        "references": {"encode_s": {"medium": {"a": 20.0, "b": 30.0}}},
        "ocr": {"ms_per_clip": 150.0},
        "runs": [run(1, 5.0), run(4, 11.0), {**run(1, 77.0), "share": "half"}, {**run(4, 77.0), "preset": "veryfast"}],
    }


def test_rates_are_of_the_height_and_the_runs_that_they_are_said_of() -> None:
    found = sizing.rates(measured())
    assert (found.decode, found.measure) == pytest.approx((0.002, 0.001))
    assert (found.text, found.encode) == pytest.approx((0.15, 0.5))
    assert found.driver == pytest.approx((11 + 4 - 5 - 1) / 30), "of a video more, without what a run begins with"


def test_sizes_follow_from_rates() -> None:
    source, prices = Source(60, 30, 30, 5, 8, 0.5), Prices(0.1, 0.02, 5.0, 0.4)
    found = sizing.sized(3600, Rates(0.002, 0.001, 0.15, 0.5, 0.3, stored=2.0, rows=0.001), source, prices)
    assert found.parts == pytest.approx(
        {"decode and measure": 1800 * 0.003, "text": 5 * 0.15, "cut: decode": 600 * 0.002, "cut: encode": 20 * 0.5}
    )
    assert found.driver_hours == pytest.approx(0.3)
    assert (found.stored_tb, found.rows_gb) == pytest.approx((3600 * 2.5 * 2 / 1e6, 3600 * 5 * 0.001 / 1e3))
    assert found.read_tb == pytest.approx(3600 * 60 / 1e6)
    requests = (found.gets * 0.4 + found.puts * 5.0) / 1e6
    assert found.usd == pytest.approx((found.hours + 0.3) * 0.1 + requests)
    many = sizing.sized(7200, Rates(0.002, 0.001, 0.15, 0.5, 0.3, stored=2.0, rows=0.001), source, prices)
    assert (many.hours, many.usd, many.usd_month) == pytest.approx(
        (2 * found.hours, 2 * found.usd, 2 * found.usd_month)
    )


def test_the_table_says_how_many_jobs_it_takes() -> None:
    rates = Rates(0.002, 0.001, 0.15, 0.5, 0.18)
    table = sizing.table([sizing.sized(videos, rates) for videos in sizing.VIDEOS])
    (row,) = [line for line in table.splitlines() if line.startswith("| jobs that must share")]
    assert row.endswith("| 1 | 30 |"), "5,000 hours of drivers in weeks of 168"
