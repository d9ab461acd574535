"""Curves of a log that grows, is torn, goes back, and is another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipelines.watching.curves import Curve, Log, Logs, tail


def add(path: Path, *lines: dict[str, Any] | str) -> None:
    with (path / "log.jsonl").open("a") as file:
        for line in lines:
            file.write(line if isinstance(line, str) else json.dumps(line) + "\n")


def step(number: int, **values: Any) -> dict[str, Any]:
    return {"kind": "step", "step": number, "samples": number * 2, **values}


def log_of(folder: Path, logs: Logs) -> Log:
    found = logs.of(folder)
    assert found is not None
    return found


def points(log: Log, name: str, most: int = 100) -> list[tuple[int, float]]:
    curve = log.curve(name, most)
    return [] if curve is None else list(zip(curve.steps, curve.values, strict=True))


def test_a_look_goes_on_where_the_last_one_ended_and_waits_for_a_whole_line(tmp_path: Path) -> None:
    logs = Logs()
    assert logs.of(tmp_path) is None
    add(
        tmp_path,
        {"kind": "begin", "step": 0, "validation/loss": 2.0},
        step(1, loss=3.0),
        '{"kind": "step", "step": 2, "lo',
    )
    log = log_of(tmp_path, logs)
    assert points(log, "loss") == [(1, 3.0)] and points(log, "validation/loss") == [(0, 2.0)] and log.damaged == 0
    add(tmp_path, 'ss": 2.5}\n', step(3, loss=None, norm=1.5))
    log = log_of(tmp_path, logs)
    assert points(log, "loss") == [(1, 3.0), (2, 2.5)] and points(log, "norm") == [(3, 1.5)], "null is no number"
    assert log.step == 3 and log.curve("no such", 5) is None


def test_of_steps_that_were_taken_again_the_later_ones_count(tmp_path: Path) -> None:
    logs = Logs()
    add(tmp_path, *(step(number, loss=float(number)) for number in range(1, 11)))
    log_of(tmp_path, logs)
    add(tmp_path, {"kind": "begin", "step": 5, "validation/loss": 1.0}, step(6, loss=60.0), step(7, loss=70.0))
    assert points(log_of(tmp_path, logs), "loss") == [*((n, float(n)) for n in range(1, 6)), (6, 60.0), (7, 70.0)]
    assert points(log_of(tmp_path, Logs()), "loss") == points(log_of(tmp_path, logs), "loss")
    add(tmp_path, {"kind": "end", "step": 7, "stopped": False, "validation/loss": 0.5})
    log = log_of(tmp_path, logs)
    assert points(log, "validation/loss") == [(5, 1.0), (7, 0.5)] and points(log, "loss")[-1] == (7, 70.0)


def test_what_cannot_be_read_is_counted_and_costs_no_other_line(tmp_path: Path) -> None:
    torn = ["{torn\n", "[1]\n", '{"kind": "step", "step": "1"}\n', '{"kind": "step", "step": -4}\n', "\xff\n", "\n"]
    add(tmp_path, *torn, {"kind": "note", "text": "no step"}, step(1, loss=1.0, notes=["x"], flag=True))
    log = log_of(tmp_path, Logs())
    assert log.damaged == 5 and points(log, "loss") == [(1, 1.0)] and log.names == ["loss", "samples"]


def test_many_steps_are_a_few_points_with_their_spread(tmp_path: Path) -> None:
    add(tmp_path, *(step(number, loss=float(number % 2)) for number in range(1, 11)))
    curve = log_of(tmp_path, Logs()).curve("loss", 4)
    assert curve == Curve((3, 6, 9, 10), (2 / 3, 1 / 3, 2 / 3, 0.0), (0.0, 0.0, 0.0, 0.0), (1.0, 1.0, 1.0, 0.0))


def test_the_end_of_a_log_is_told_by_its_last_piece_alone(tmp_path: Path) -> None:
    assert tail(tmp_path) == {}
    add(tmp_path, *(step(number, loss=1.0 / number, seconds=2.0, filling="x" * 900) for number in range(1, 301)))
    add(tmp_path, '{"kind": "step", "step": 301, "lo')
    assert tail(tmp_path) == log_of(tmp_path, Logs()).end(50) == {"step": 300.0, "loss": 1 / 300, "seconds": 2.0}
    (tmp_path / "log.jsonl").write_text(json.dumps(step(1, loss=3.0)) + "\n")
    assert tail(tmp_path) == {"step": 1.0, "loss": 3.0}


def test_another_log_is_read_from_its_beginning_and_one_elsewhere_not_at_all(tmp_path: Path) -> None:
    logs, run = Logs(), tmp_path / "run"
    run.mkdir()
    add(run, *(step(number, loss=1.0) for number in range(1, 50)))
    assert log_of(run, logs).step == 49
    (run / "log.jsonl").unlink()
    add(run, step(1, loss=5.0))
    assert points(log_of(run, logs), "loss") == [(1, 5.0)]
    add(tmp_path, step(1, loss=1.0))
    (run / "log.jsonl").unlink()
    (run / "log.jsonl").symlink_to(tmp_path / "log.jsonl")
    assert logs.of(run) is None
