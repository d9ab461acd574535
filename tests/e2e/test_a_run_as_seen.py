"""What a run shows while it works, what it listens on, and what its exit code says at the end."""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil
import pytest

from tests.support import jobs, media

RECIPE = jobs.RECIPE.replace("silence_s = 25.0", "silence_s = 120.0") + "[run]\nstall_s = 1.0\n"
_APPEARS_S = 60.0


@dataclass(frozen=True)
class Seen:
    """A finished run, and where its processes listened while a decoder was at work."""

    done: jobs.Finished
    listened: set[str]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    folder = tmp_path_factory.mktemp("seen")
    (folder / "videos").mkdir()
    media.scenes(folder / "videos" / "0.mp4", (3, 2.5), sources=("testsrc2", "mandelbrot"), crf=28)
    media.scenes(folder / "videos" / "1.mp4", (4,), sources=("gradients",), crf=28)
    names = [*sorted((folder / "videos").iterdir()), folder / "gone.mp4"]
    (folder / "list.txt").write_text("".join(f"{name}\n" for name in names))
    to = ("--to", str(folder / "p"), "--recipe", jobs.recipe(folder, RECIPE), "--cpus", jobs.CPUS, "--json")
    process = jobs.start("curate", str(folder / "list.txt"), *to, RUN=str(folder))
    assert process.stdout is not None
    first = list(until("progress", process.stdout))
    listened = listening(str(folder))
    decoder = decoding(str(folder))
    decoder.suspend()
    first += until("stalled", process.stdout)
    decoder.resume()
    rest = jobs.finish(process)
    return Seen(jobs.Finished(rest.code, [*first, *rest.events], rest.error), listened)


def until(event: str, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The events up to the first of this kind."""
    for line in lines:
        yield (found := json.loads(line))
        if found["event"] == event:
            return


def decoding(run: str) -> psutil.Process:
    """A decoder's process of a run, as soon as there is one."""
    end = time.monotonic() + _APPEARS_S
    while time.monotonic() < end:
        for process in jobs.of_run(run):
            with suppress(psutil.Error):
                for child in process.children():  # its own environment says nothing of the run
                    if "curation.media.sandbox.child" in child.cmdline():
                        return child
        time.sleep(0.01)
    raise AssertionError("no decoder was started")


def listening(run: str) -> set[str]:
    """The addresses on which processes of a run listen."""
    found: set[str] = set()
    for process in jobs.of_run(run):
        try:
            connections = process.net_connections(kind="inet")
        except psutil.Error:
            continue
        found |= {connection.laddr.ip for connection in connections if connection.status == psutil.CONN_LISTEN}
    return found


def test_nothing_of_a_plain_run_listens_beyond_loopback(seen: Seen) -> None:
    assert seen.listened, "Ray's servers were not found"
    for text in seen.listened:
        address = ipaddress.ip_address(text)
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        assert (mapped or address).is_loopback, seen.listened


def test_a_source_that_cannot_be_read_is_a_loss_of_the_set_up(seen: Seen) -> None:
    assert seen.done.code == 1, seen.done.error
    assert (seen.done.summary["done"], seen.done.summary["quarantined"]) == (2, 1)
    assert seen.done.summary["losses"] == {"videos: unreadable": 1}
    assert seen.done.summary["exit"] == 1


def test_every_stage_shows_how_far_it_is(seen: Seen) -> None:
    shown: dict[str, list[tuple[int, int]]] = {}
    for event in seen.done.events:
        if event["event"] == "progress":
            shown.setdefault(event["stage"], []).append((event["stage_done"], event["stage_total"]))
    assert list(shown) == ["measure", "ocr", "cut"]
    totals = {stage: {total for _, total in some if total} for stage, some in shown.items()}
    assert totals == {"measure": {2}, "ocr": {3}, "cut": {3}}
    for some in shown.values():
        done = [count for count, _ in some]
        assert done == sorted(done)
    assert (seen.done.summary["stage_done"], seen.done.summary["eta_s"]) == (3, 0)


def test_the_screen_is_never_blank_while_it_searches(seen: Seen) -> None:
    before = [event["event"] for event in seen.done.events]
    searched = [event["what"] for event in seen.done.events if event["event"] == "search"]
    assert before[0] == "search", "the first thing that a person sees"
    for what in ("listing", "set-up", "starting Ray", "killed runs", "what is settled", "to be cut"):
        assert any(what in said for said in searched), what


def test_a_stage_slower_than_stall_s_is_named_and_goes_on(seen: Seen) -> None:
    stalled = [event for event in seen.done.events if event["event"] == "stalled"]
    stages = [event["stage"] for event in stalled]
    assert stages[0] == "measure", "its decoder was stopped"
    assert len(set(stages)) == len(stages), "each is told once"
    assert all(event["stage"] in event["what"] for event in stalled)
    assert (seen.done.summary["clips"], seen.done.summary["cut"]) == (3, 3)
