"""P6 on an object store: equal to a local pyramid, and through a bad network the same table or one line."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.pyramid.commits.commit import Committer
from curation.pyramid.store import Pyramid
from curation.retry import explained
from pipelines.cli import main
from tests.curation.pyramid.build import TIERS, whole_video
from tests.faults.conftest import Small
from tests.faults.test_disk_full import one_line
from tests.support import disk, jobs, proxy, store, without_ray

BAD = proxy.Faults(unavailable=0.3, dropped=0.1, lost=0.05)
RUNS = 6
STAGING_KB = 300 << 10
"""More than staging leaves free for others (256 MB); a tmpfs takes only what is written to it."""


@pytest.fixture(scope="module")
def server() -> Iterator[store.Store]:
    with store.served() as made:
        yield made


@pytest.fixture(scope="module")
def videos(server: store.Store, small: Small) -> str:
    return server.upload(small.videos, "videos")


@pytest.fixture
def near(server: store.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process, too, finds the store where the command finds it."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)


def arguments(videos: str, pyramid: str, small: Small) -> tuple[str, ...]:
    return ("curate", videos, "--to", pyramid, "--recipe", small.recipe, "--cpus", jobs.CPUS, "--json")


def answers(capsys: pytest.CaptureFixture[str], *command: str) -> list[dict[str, Any]]:
    assert main([*command, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_everything_as_on_a_local_disk(
    small: Small, server: store.Store, videos: str, near: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pyramid, local = f"s3://{store.BUCKET}/clean", str(small.pyramid)
    command = arguments(videos, pyramid, small)
    # Objects are staged in the temporary folder, and this one is too small at first.
    with disk.mounted(tmp_path / "disk", 100 << 10) as scratch:
        # Ray stays where it was: the names of its sockets must be short.
        environment = {**server.environment, "TMPDIR": str(scratch.path), "RAY_TMPDIR": tempfile.gettempdir()}
        said = one_line(without_ray.run(*command, **environment))
        assert "staging folder" in said
        scratch.grow(STAGING_KB)
        done = jobs.run(*command, **environment)
    assert done.code == 0, done.error
    assert (done.summary["done"], done.summary["cut"]) == (2, 3)
    assert jobs.rows(pyramid) == jobs.rows(local)

    for _ in range(2):
        assert answers(capsys, "tiers", pyramid) == answers(capsys, "tiers", local)
        for some in (("--tier", "moving", "--motion", "0.3.."), ("--order", "-sharpness", "--limit", "2")):
            there, here = answers(capsys, "query", pyramid, *some), answers(capsys, "query", local, *some)
            assert [row["uri"] for row in there] == [f"{videos}/{row['source']}" for row in here]
            assert [row | {"uri": ""} for row in there] == [row | {"uri": ""} for row in here]
        told, known = answers(capsys, "why", pyramid, "0.mp4"), answers(capsys, "why", local, "0.mp4")
        assert [row.get("clip_id") for row in told] == [row.get("clip_id") for row in known]
        assert told[0]["uris"] == [f"{videos}/0.mp4"]
        (kept,) = answers(capsys, "upkeep", pyramid)
        assert (kept["orphans"], kept["twins"], kept["redo"], kept["puzzling"]) == (0, 0, 0, 0)
    assert jobs.rows(pyramid) == jobs.rows(local)


def test_a_store_is_named_by_a_uri_alone(
    small: Small,
    server: store.Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Sources, pyramid and outputs with `?endpoint_override=`: of the environment only the credentials."""
    credentials = {name: value for name, value in server.environment.items() if "ENDPOINT" not in name}
    del credentials["AWS_ALLOW_HTTP"]
    place, options = f"s3://{store.BUCKET}/named", f"?endpoint_override=127.0.0.1:{server.port}&scheme=http"
    server.upload(small.videos, "named/in")
    done = without_ray.run(*arguments(f"{place}/in{options}", f"{place}/p{options}", small), **credentials)
    assert done.code == 0, done.error
    assert (done.summary["done"], done.summary["cut"]) == (2, 3)
    for name, value in credentials.items():
        monkeypatch.setenv(name, value)
    pyramid = f"{place}/p{options}"
    assert len(answers(capsys, "query", pyramid)) == len(answers(capsys, "query", str(small.pyramid)))
    for output in ("all.csv", "all.parquet", "sheet.png"):
        command = "sheet" if output.endswith("png") else "query"
        assert main([command, pyramid, "-o", f"{place}/{output}{options}"]) == 0
        assert len(server.content(f"named/{output}")) > 100
    assert main(["query", pyramid, "-o", f"{place}/clips{options}", "--names", "{source}_{clip_id}"]) == 0
    keys = server.keys("named/clips/")
    assert len(keys) == 4 and "named/clips/metadata.jsonl" in keys
    assert all(key.startswith(("named/clips/0_", "named/clips/1_", "named/clips/m")) for key in keys)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_through_a_bad_network(small: Small, server: store.Store, videos: str, near: None, seed: int) -> None:
    pyramid = f"s3://{store.BUCKET}/bad-{seed}"
    with proxy.between(server.port, proxy.Faults(BAD.unavailable, BAD.dropped, BAD.lost, seed)) as network:
        for _ in range(RUNS):
            how = jobs if seed else without_ray
            done = how.run(*arguments(videos, pyramid, small), **store.environment(network.port))
            if done.code == 0:
                break
            one_line(done)
    assert done.code == 0, f"{RUNS} runs were not enough: {done.error}"
    assert all(network.counts[fate] for fate in ("unavailable", "dropped", "lost")), network.counts
    assert jobs.rows(pyramid) == jobs.rows(small.pyramid)


def test_a_commit_whose_reply_is_lost_is_committed_once(
    server: store.Store, near: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with proxy.between(server.port, proxy.Faults(lost=0.4, only="_versions/")) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{network.port}")
        pyramid = Pyramid.create(f"s3://{store.BUCKET}/lost", TIERS, "test")
        names = [f"v{number}" for number in range(4)]
        for name in names:
            Committer(pyramid).commit(whole_video(pyramid, name, 2))
        network.faults = proxy.Faults()
        videos, clips, media = jobs.rows(pyramid.uri)  # fails where a key is there twice
        assert pyramid.dataset("samples").count_rows() == 8
    assert network.counts["lost"] >= len(names), network.counts
    assert (len(videos), len(clips), len(media)) == (4, 8, 8)


def test_a_store_that_does_not_answer_is_said_in_one_line(
    server: store.Store, near: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pyramid = Pyramid.create(f"s3://{store.BUCKET}/silent", TIERS, "test")
    with proxy.between(server.port, proxy.Faults(unavailable=1.0)) as network:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{network.port}")
        assert main(["tiers", pyramid.uri]) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert "the store fails" in said and "503 Service Unavailable" in said
        assert "run the same command again" in said
        # With `pyramid.json` read and a dataset that is not: nobody is told to restore it.
        network.faults = proxy.Faults(unavailable=1.0, only=".lance")
        impatient = Pyramid.open(pyramid.uri, {"client_max_retries": "0"})
        with pytest.raises((OSError, RuntimeError, ValueError)) as raised:
            impatient.dataset("clips")
        assert "the store fails" in str(explained(raised.value))
