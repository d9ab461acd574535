"""Captions by vLLM as a user has them made: in workers of vLLM's own environment, from the command, and the same model
behind vLLM's server beside them. A real architecture with weights of a test's making (`tests.support.tiny_vlm`).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from curation.pyramid.store import Pyramid
from pipelines.config import promptfile
from pipelines.config.recipe import parsed
from tests.e2e.test_captions_job import clips
from tests.support import face, jobs, media, vllm_server, without_ray
from tests.support.environments import vllm_python
from tests.support.tiny_vlm import is_its

pytestmark = pytest.mark.slow

CLIPS = 6
CONTEXT, SEQUENCES = 4096, 4
FREE = 'version = 1\nask = "Describe the clip."\n'
BLOCK = """
[[captions]]
name = "{name}"
tier = "all"
model = "{model}"
prompt = "{prompt}"
side = 96
max_tokens = 200
concurrency = 3
{more}
"""
VLLM = """
engine = "vllm"
python = "{python}"
gpus = 0
cpus = 0.5
engine_args = {{ dtype = "float32", max_model_len = {context}, max_num_seqs = {sequences}, enforce_eager = true }}
"""
SERVER = {
    "--dtype": "float32",
    "--max-model-len": str(CONTEXT),
    "--max-num-seqs": str(SEQUENCES),
    "--enforce-eager": "",
    "--limit-mm-per-prompt": '{"image": 3, "video": 0}',
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model (`vlm`), one that sees nothing (`text`), a prompt, and a pyramid `bare` without captions."""
    python, folder = vllm_python(), tmp_path_factory.mktemp("vllm")
    for name, more in (("vlm", ()), ("text", ("--text",))):
        made = [str(python), "-m", "tests.support.tiny_vlm", str(folder / name), *more]
        subprocess.run(made, cwd=jobs.ROOT, env={**os.environ, "PYTHONPATH": str(jobs.ROOT)}, check=True)
    (folder / "free.toml").write_text(FREE)
    (folder / "videos").mkdir()
    media.scenes(folder / "videos" / "a.mp4", (2.5, 3, 2.5), sources=("testsrc2", "mandelbrot", "smptebars"), crf=28)
    media.scenes(folder / "videos" / "b.mp4", (2.5, 3, 2.5), sources=("gradients", "smptebars", "testsrc2"), crf=28)
    done = without_ray.curate(folder / "videos", folder / "bare", jobs.recipe(folder, jobs.WITHOUT_TEXT))
    assert done.summary["clips"] == CLIPS
    return folder


@pytest.fixture
def here(place: Path, tmp_path: Path) -> Path:
    shutil.copytree(place / "bare", tmp_path / "p")
    return tmp_path


def block(place: Path, name: str, prompt: str, engine: str = VLLM, model: str = "") -> str:
    more = engine.format(python=vllm_python(), context=CONTEXT, sequences=SEQUENCES)
    return BLOCK.format(name=name, prompt=prompt, model=model or place / "vlm", more=more)


def adopt(here: Path, *blocks: str) -> None:
    text = Path(jobs.recipe(here, jobs.WITHOUT_TEXT + "".join(blocks))).read_text()
    read = parsed(text, "test")
    Pyramid.open(here / "p").with_recipe(read.name, text, read.pyramid_tiers)


def caption(here: Path, *arguments: str, **environment: str) -> jobs.Finished:
    """`ziggurat caption` on Ray, seen to end well."""
    variables = vllm_server.VARIABLES | environment
    done = jobs.run("caption", str(here / "p"), *arguments, "--cpus", "2", "--json", **variables)
    assert done.code == 0, done.error
    return done


def rows(here: Path) -> dict[str, dict[str, tuple[str, dict[str, Any]]]]:
    """Of each block: caption and detail by clip. A clip that a maker has captioned twice fails."""
    found: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {}
    for row in Pyramid.open(here / "p").dataset("captions").to_table().to_pylist():
        of_block = found.setdefault(row["by"].partition("/")[0], {})
        assert row["clip_id"] not in of_block and row["why"] is None, row
        of_block[row["clip_id"]] = row["caption"], json.loads(row["detail"])
    return found


def test_every_clip_is_captioned_in_the_worker_as_it_is_by_the_server_of_the_same_model(
    place: Path, here: Path
) -> None:
    free = str(place / "free.toml")
    adopt(here, block(place, "free", free), block(place, "aspects", "six-aspects"))
    done = caption(here)
    again = caption(here)
    assert done.summary["captioned"] == {"free": CLIPS, "aspects": CLIPS} and again.summary["captioned"] == {}
    assert {name: len(some) for name, some in rows(here).items()} == {"free": CLIPS, "aspects": CLIPS}
    assert all(row["caption_by"].startswith("aspects/vlm/") for row in clips(here).values())
    with vllm_server.served(vllm_python(), place / "vlm", "vlm", SERVER, here / "server.log") as url:
        asked = f'endpoint = "{url}"'
        blocks = (block(place, "freely", free, asked, "vlm"), block(place, "fielded", "six-aspects", asked, "vlm"))
        adopt(here, *blocks)
        served = caption(here)
    assert served.summary["captioned"] == {"freely": CLIPS, "fielded": CLIPS}
    found = rows(here)
    for ours, theirs in (("free", "freely"), ("aspects", "fielded")):
        assert {name: text for name, (text, _) in found[ours].items()} == {
            name: text for name, (text, _) in found[theirs].items()
        }
        for name, (_, detail) in found[ours].items():
            other = found[theirs][name][1]
            same = ("fields", "short", "finish_reason", "requests", "tokens_in", "tokens_out")
            assert {key: detail[key] for key in same} == {key: other[key] for key in same}
    said = Counter(text for text, _ in found["free"].values())
    assert all(map(is_its, said)) and len(said) > 1, "the model sees what it is shown"
    names = [aspect.name for aspect in promptfile.load("six-aspects").aspects]
    assert all([*detail["fields"]] == names for _, detail in found["aspects"].values()), "a schema is kept to"


def test_a_worker_that_is_killed_is_replaced_and_no_clip_is_lost(place: Path, here: Path) -> None:
    adopt(here, block(place, "free", str(place / "free.toml")))
    killed: list[int] = []
    python = vllm_python()
    over = threading.Event()

    def kill() -> None:
        """The first worker of Ray's that has vLLM's environment: the trial before it is none."""
        while not over.is_set() and not killed:
            for process in jobs.of_run("killed"):
                with suppress(OSError, psutil.Error):
                    maps = Path(f"/proc/{process.pid}/maps").read_text()
                    if process.cmdline()[0].startswith("ray::") and f"{python.parent.parent}/" in maps:
                        process.send_signal(signal.SIGKILL)
                        killed.append(process.pid)
                        break
            time.sleep(0.2)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        done = caption(here, RUN="killed")
    finally:
        over.set()
        killer.join()
    assert killed and done.summary["captioned"] == {"free": CLIPS}
    assert all(is_its(row["caption"]) for row in clips(here).values()) and len(rows(here)["free"]) == CLIPS


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("{place}/vlm", "{place}/text"), "text is no vision-language model; name a model that sees pictures"),
        (("{place}/vlm", "{place}/none"), "none is no folder on this machine"),
        (("{place}/vlm", "org/none"), "fetch it with `hf download org/none`: nothing is fetched by a run"),
        (('dtype = "float32"', 'dtpye = "float32"'), "engine_args has 'dtpye', which vLLM does not know"),
        (("bin/python", "bin/nothing"), "is not there, or no program"),
    ],
)
def test_a_wrong_set_up_ends_the_command_before_any_clip(
    place: Path, here: Path, change: tuple[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = (text.format(place=place) for text in change)
    adopt(here, block(place, "free", str(place / "free.toml")).replace(old, new))
    before = clips(here)
    assert told in face.refused(capsys, "caption", str(here / "p"))
    assert clips(here) == before
