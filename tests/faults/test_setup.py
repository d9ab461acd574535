"""A bad set-up ends a run before its first video: one line, exit code 2, and no new pyramid."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from curation.errors import UserError
from curation.media.plan import Encode, Limits, MediaPlan
from curation.media.sandbox import decoder
from curation.media.sandbox.cell.confine import Level
from pipelines.cli import main
from pipelines.config.recipe import load
from pipelines.doctor import checks, packages, report, selftest
from pipelines.execution import answering
from tests.support import jobs, media

NVENC = packages.Codec("h264_nvenc", "w", "")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for a pyramid; Ray must not start, for nothing of it is needed to see what is wrong."""

    def started(*given: object, **options: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("pipelines.execution.cluster._start", started)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], place: Path, *options: str) -> str:
    """The line that `curate` says of a set-up; there is no pyramid afterwards."""
    assert main(["curate", str(media.sample("plain.mp4")), "--to", str(place / "p"), *options]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("ziggurat: ")
    assert not (place / "p").exists(), "a pyramid was made for nothing"
    return said


def with_recipe(place: Path, text: str) -> tuple[str, str]:
    return "--recipe", jobs.recipe(place, jobs.RECIPE + text)


@pytest.mark.parametrize("option", ["treshold = 3", "radius = 0"])
def test_a_detector_with_wrong_options(here: Path, capsys: pytest.CaptureFixture[str], option: str) -> None:
    said = refused(capsys, here, *with_recipe(here, f"[shots.options]\n{option}\n"))
    assert option.partition(" ")[0] in said


def test_a_decoder_that_does_not_start(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert "does not start" in refused(capsys, here, *with_recipe(here, ""))


def test_a_decoder_that_fails_for_every_video(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def empty(path: Path) -> None:
        path.write_bytes(b"")

    monkeypatch.setattr(
        "pipelines.doctor.selftest.make_film", empty
    )  # whatever the reason is: the film must come through
    assert "cannot be measured" in refused(capsys, here, *with_recipe(here, ""))


LACKING = """
import av.filter
real = av.filter.Graph
class Graph:
    def __init__(self):
        self.__dict__["graph"] = real()
    def __getattr__(self, key):
        return getattr(self.__dict__["graph"], key)
    def add(self, name, *given):
        return self.graph.add("no such " + name if name == "bwdif" else name, *given)
av.filter.Graph = Graph
"""


def test_a_libav_without_a_filter(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "early").mkdir()
    (here / "early" / "sitecustomize.py").write_text(LACKING)  # what Python runs first, in the decoder's process alone
    monkeypatch.setattr(decoder, "_ROOT", f"{here / 'early'}{os.pathsep}{decoder._ROOT}")
    assert "no filter no such bwdif" in refused(capsys, here, *with_recipe(here, ""))


def test_time_limits_that_suit_no_film_do_not_fail_the_check(tmp_path: Path) -> None:
    hasty = Limits(silence_s=1e-3, wall_s=1e-3, cpu_s=1e-3, memory_mb=1024, recycle_after=1)
    plan = load(jobs.recipe(tmp_path)).plan
    assert "measures with" in selftest.decoder(plan, Encode(preset="ultrafast"), hasty).how


def test_the_film_of_the_check_goes_through_the_encoder_of_sound(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keeps = jobs.RECIPE.replace('preset = "ultrafast"', 'preset = "ultrafast"\nsound = "aac"')
    recipe = load(jobs.recipe(here, keeps))
    assert "encodes with libx264 and aac" in selftest.decoder(recipe.plan, recipe.encoding, recipe.limits).how
    assert {check.name: check.run().text for check in checks.of_machine(recipe)}["encoder"] == "libx264 and aac"
    monkeypatch.setattr(packages, "has_codec", lambda codec: codec.name != "aac")
    packages.wrong_with_codec.cache_clear()
    try:
        assert "the encoder aac cannot be used" in refused(capsys, here, "--recipe", jobs.recipe(here, keeps))
    finally:
        packages.wrong_with_codec.cache_clear()


def test_cutting_needs_no_shot_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load(jobs.recipe(tmp_path, jobs.RECIPE + '[shots]\ndetector = "transnet"\n'))
    tried: list[str] = []

    def decode(plan: MediaPlan, *given: object) -> selftest.Tried:
        tried.append(plan.shots.detector)
        return selftest.Tried("", Level(1, True))

    monkeypatch.setattr(selftest, "decoder", decode)
    for checked in (checks.of_filling(recipe), checks.of_machine(recipe)):
        next(check for check in checked if check.name == "decoder's process").run()
    assert tried == ["scene", "transnet"]


@pytest.mark.parametrize("level", [Level(0, True), Level(3, False), Level(6, True)])
def test_notice_and_check_say_what_the_decoder_s_process_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: Level
) -> None:
    """Not what the kernel offers: a library's thread can keep a process out of a cell that the kernel has."""
    heard = decoder.Decoder._greeting
    monkeypatch.setattr(decoder.Decoder, "_greeting", lambda self: heard(self) and level)
    recipe = load(jobs.recipe(tmp_path))
    (check,) = [check for check in checks.of_machine(recipe) if check.name == "decoder's process"]
    assert level.text in check.run().text
    notices = [notice for notice in checks.pass_all([check]) if level.text in notice]
    assert bool(notices) is not level.holds
    (shown,) = [found for found in report.trials(recipe) if found.name == check.name]
    assert level.text in shown.value


def test_a_run_says_what_its_decoder_s_process_lacks(tmp_path: Path) -> None:
    level = Level(0, True)
    code = (
        "from curation.media.sandbox import decoder; "
        "from curation.media.sandbox.cell.confine import Level; "
        "from tests.support import without_ray; heard = decoder.Decoder._greeting; "
        f"decoder.Decoder._greeting = lambda self: heard(self) and {level!r}; without_ray.main()"
    )
    video, recipe = str(media.sample("plain.mp4")), jobs.recipe(tmp_path)
    asked = ("curate", video, "--to", str(tmp_path / "p"), "--recipe", recipe, "--cpus", jobs.CPUS, "--json")
    done = jobs.finish(jobs.start(*asked, code=code))
    assert done.code == 0, done.error
    notice = f"the decoder's process is not fully confined: {level.text}"
    assert f"note: {notice}" in done.error
    assert notice in done.summary["notices"]


def test_an_encoder_that_is_not_there(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "has_codec", lambda codec: False)
    packages.wrong_with_codec.cache_clear()
    try:
        assert "libx264" in refused(capsys, here, *with_recipe(here, ""))
    finally:
        packages.wrong_with_codec.cache_clear()


@pytest.mark.parametrize("text", ['[run]\nhwaccel = "cuda"\n', ""], ids=["decoder", "encoder"])
def test_a_gpu_that_is_not_there(here: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    if packages.wrong_with_codec(NVENC) is None:
        pytest.skip("this machine has a GPU")
    nvenc = jobs.RECIPE.replace('preset = "ultrafast"', 'codec = "h264_nvenc"\npreset = "p4"')
    refused(capsys, here, "--recipe", jobs.recipe(here, jobs.RECIPE + text if text else nvenc))


def test_a_place_that_cannot_be_written(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="cannot write to /proc/ziggurat"):
        checks.writable("/proc/ziggurat/p")
    assert checks.writable(str(here / "a" / "b")) and not list(here.iterdir()), "a trial leaves nothing behind"


def test_the_staging_folder_without_room(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local, remote = (checks.of_places(str(here), [source])[1] for source in ("a.mp4", "s3://bucket/a.mp4"))
    monkeypatch.setattr(checks.shutil, "disk_usage", lambda place: _Usage(100 << 20))
    assert local.run()
    with pytest.raises(UserError, match="staging folder"):
        remote.run()


class _Usage:
    def __init__(self, free: int) -> None:
        self.free = free


@pytest.mark.parametrize("detector", ["scene", "adaptive", "content"])
def test_a_detector_goes_through_the_decoder_s_process(tmp_path: Path, detector: str) -> None:
    recipe = load(jobs.recipe(tmp_path, f'{jobs.RECIPE}[shots]\ndetector = "{detector}"\n'))
    checks.pass_all(checks.of_machine(recipe)[:-1])


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def unused() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_wrong_address(here: Path, capsys: pytest.CaptureFixture[str], scheme: str) -> None:
    assert "Connection refused" in refused(capsys, here, "--address", scheme + unused())


@pytest.mark.parametrize("address", ["nonsense", "host", "host:0", "host:99999", "ray://", ":6379"])
def test_what_is_no_address(here: Path, capsys: pytest.CaptureFixture[str], address: str) -> None:
    assert "no address of a Ray cluster" in refused(capsys, here, "--address", address)


def test_an_address_that_does_not_answer(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, silent: str
) -> None:
    monkeypatch.setattr(answering, "BOUND_S", 1.0)
    assert "no answer within 1 s" in refused(capsys, here, "--address", silent)
