"""P15: jobs over REST. What a token may have run is bounded, and what is no job of this pyramid is not there."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from curation.errors import UserError
from curation.inputs.roots import Roots
from curation.pyramid.history import runs
from pipelines.api import wanted
from pipelines.commands.jobs import of_pyramid
from pipelines.commands.jobs.entrypoint import COMMANDS, entrypoint
from pipelines.commands.jobs.of_pyramid import PyramidJobs
from pipelines.commands.service import serve
from tests.support import ray_jobs
from tests.support.service import GROUP, Working


@pytest.fixture
def client(working: Working) -> TestClient:
    return working.client


@pytest.fixture
def ray(working: Working) -> ray_jobs.Client:
    return working.ray


@pytest.fixture
def data(working: Working) -> Path:
    return working.data


@pytest.fixture
def place(working: Working) -> Path:
    return working.place


def sent(ray: ray_jobs.Client) -> list[list[str]]:
    """The command lines that the cluster has got, as a shell reads them."""
    return [shlex.split(one.entrypoint) for one in ray.found.values()]


def body(data: Path, place: Path, **given: Any) -> dict[str, Any]:
    """A request with `{data}` and `{place}` in its texts."""

    def filled(value: Any) -> Any:
        if isinstance(value, list):
            return [filled(one) for one in value]
        return value.format(data=data, place=place) if isinstance(value, str) else value

    return {name: filled(value) for name, value in given.items()}


TRAIN = {"command": "train", "manifest": "first", "to": "{data}/run"}
ENCODE = {"command": "encode", "manifest": "first", "model": "tiny", "to": "{data}/latents"}
CURATE = {"command": "curate", "sources": ["{data}/videos"]}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            CURATE | {"sidecars": "txt", "retry": True},
            "curate {data}/videos --to {place} --root {data} --sidecars txt --retry",
        ),
        ({"command": "fill"}, "curate {place} --fill"),
        ({"command": "cut", "tier": "moving"}, "cut {place} --tier moving"),
        ({"command": "caption", "names": ["dense"], "limit": 5}, "caption {place} dense --limit 5"),
        ({"command": "embed", "spaces": ["picture"]}, "embed {place} picture"),
        ({"command": "duplicates"}, "duplicates {place}"),
        ({"command": "clusters", "again": True}, "clusters {place} --again"),
        ({"command": "retry", "reason": "unreadable"}, "retry {place} --reason unreadable"),
        (ENCODE, "encode {place}#first --model tiny --to {data}/latents"),
        (
            TRAIN | {"latents": "{data}/latents", "changes": ["seed=7"], "workers": 2, "min_workers": 1},
            "train {place}#first --to {data}/run --latents {data}/latents --model tiny --preset tiny --set seed=7 "
            "--workers 2 --min-workers 1",
        ),
    ],
)
def test_a_job_is_the_command_that_a_person_would_send(
    client: TestClient, ray: ray_jobs.Client, data: Path, place: Path, given: dict[str, Any], words: str
) -> None:
    answer = client.post("/api/jobs", json=body(data, place, **given))
    assert answer.status_code == 201, answer.text
    typed = words.format(data=data, place=place).split()
    assert sent(ray) == [list(entrypoint(GROUP, typed).words)]
    (job,) = client.get("/api/jobs").json()["jobs"]
    assert job == answer.json() == client.get(f"/api/jobs/{job['id']}").json()
    assert (job["ray"], job["by"]) == ("PENDING", "a test") and job["request"] == body(data, place, **given)


def test_every_command_that_may_be_submitted_is_there() -> None:
    kinds = {kind.model_fields["command"].annotation.__args__[0] for kind in wanted.COMMANDS}  # type: ignore[union-attr]
    assert kinds - {"fill"} == {*COMMANDS}, "`fill` is curate's"


OUTSIDE = [
    "/etc/passwd",
    "{data}/../x.mp4",
    "{data}x/y.mp4",
    "{data}/out/passwd",
    "{data}/out/*.conf",
    "file:///etc/passwd",
    "file://{data}/../x",
    "s3://bucket/x.mp4",
    "s3://bucket/x?endpoint_override=127.0.0.1:1",
    "http://127.0.0.1/x.mp4",
    "concat:{data}/a|/etc/passwd",
    "videos",
    "--root=/",
    "~/x.mp4",
]
"""Places out of the one root, by all the ways that were thought of."""


@pytest.mark.parametrize("outside", OUTSIDE)
def test_no_place_out_of_the_roots_reaches_the_cluster(
    client: TestClient, ray: ray_jobs.Client, data: Path, place: Path, outside: str
) -> None:
    for given, field in (
        (CURATE | {"sources": ["{data}/videos", outside]}, "sources"),
        (ENCODE | {"to": outside}, "to"),
        (ENCODE | {"model": outside + ".toml"}, "model"),
        (TRAIN | {"to": outside}, "to"),
        (TRAIN | {"latents": outside}, "latents"),
        (TRAIN | {"preset": outside + ".toml"}, "preset"),
    ):
        answer = client.post("/api/jobs", json=body(data, place, **given))
        assert answer.status_code == 422, (given, answer.text)
        assert answer.json()["field"] == field and answer.json()["remedy"]
    assert ray.found == {}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (CURATE | {"recipe": "{data}/own.toml"}, "curate.recipe"),
        (CURATE | {"replace_recipe": True}, "curate.replace_recipe"),
        (CURATE | {"to": "{data}/other"}, "curate.to"),
        (CURATE | {"root": "/"}, "curate.root"),
        (CURATE | {"follow_links": True}, "curate.follow_links"),
        (CURATE | {"sidecars": "py"}, "curate.sidecars"),
        (CURATE | {"sources": []}, "curate.sources"),
        (CURATE | {"sources": ["{data}/a\0b"]}, "curate.sources.0"),
        (CURATE | {"sources": ["{data}/a\nb"]}, "curate.sources.0"),
        ({"command": "cut", "tier": "moving", "recipe": "small"}, "cut.recipe"),
        ({"command": "cut", "tier": "none"}, "tier"),
        ({"command": "caption", "names": ["--retry"]}, "caption.names.0"),
        ({"command": "duplicates", "pyramid": "{data}"}, "duplicates.pyramid"),
        ({"command": "duplicates", "address": "elsewhere:6379"}, "duplicates.address"),
        ({"command": "retry", "reason": "no_reason"}, "retry.reason"),
        ({"command": "serve"}, "body"),
        ({"command": "ziggurat; touch x"}, "body"),
        (ENCODE | {"manifest": "second"}, "manifest"),
        (ENCODE | {"manifest": "../first"}, "encode.manifest"),
        (ENCODE | {"model": "../../models/tiny"}, "model"),
        (ENCODE | {"to": "{data}"}, "to"),
        (ENCODE | {"to": "{place}/latents"}, "to"),
        (TRAIN | {"to": "{data}/other/deep"}, "to"),
        (TRAIN | {"to": "{place}"}, "to"),
        (TRAIN | {"changes": ["log.wandb=mine"]}, "changes"),
        (TRAIN | {"changes": ["no.such=1"]}, "changes"),
        (TRAIN | {"preset": "{data}/telling.toml"}, "preset"),
        (TRAIN | {"model": "{data}/leading.toml"}, "model"),
        (TRAIN | {"model": "{data}/fetching.toml"}, "model"),
        (TRAIN | {"workers": 10**9}, "train.workers"),
        (TRAIN | {"engine": "mine"}, "train.engine"),
    ],
)
def test_what_would_run_code_or_reach_further_is_refused_by_its_field(
    client: TestClient, ray: ray_jobs.Client, data: Path, place: Path, given: dict[str, Any], field: str
) -> None:
    (data / "other").mkdir(exist_ok=True)
    (data / "other" / "pyramid.json").touch()
    model = 'name = "m"\n[denoiser]\npreset = "tiny"\npath = "{}"\n[autoencoder]\nkind = "hunyuan"\n'
    (data / "leading.toml").write_text(model.format("/etc/passwd"))
    (data / "fetching.toml").write_text(model.format("hub:someone/something"))
    shipped = Path(wanted.__file__).parents[1] / "config" / "presets" / "tiny.toml"
    (data / "telling.toml").write_text(shipped.read_text() + '\n[log]\nwandb = "mine"\n')
    answer = client.post("/api/jobs", json=body(data, place, **given))
    assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    assert ray.found == {}


def test_model_and_preset_of_a_root_are_taken_with_what_they_name_there(
    client: TestClient, ray: ray_jobs.Client, data: Path, place: Path
) -> None:
    text = (
        f'name = "m"\n[denoiser]\npreset = "tiny"\npath = "{data}/dit.safetensors"\n[autoencoder]\nkind = "hunyuan"\n'
    )
    (data / "own.toml").write_text(text)
    answer = client.post("/api/jobs", json=body(data, place, **TRAIN, model="{data}/own.toml"))
    assert answer.status_code == 201, answer.text
    assert f"{data}/own.toml" in sent(ray)[0]


@pytest.mark.parametrize("name", ["a b", "$(touch x)", "`touch x`", "a;touch x", "a'b\"c", "a&&b|c>d", "-rf", "--to=x"])
def test_a_name_stays_a_name_for_the_shell_and_for_the_command(
    client: TestClient, ray: ray_jobs.Client, data: Path, place: Path, name: str
) -> None:
    answer = client.post("/api/jobs", json={"command": "curate", "sources": [f"{data}/{name}"]})
    assert answer.status_code == 201, answer.text
    (words,) = sent(ray)
    context = GROUP.commands["curate"].make_context("curate", words[2:])
    assert context.params["sources"] == [f"{data}/{name}"]
    assert (context.params["to"], context.params["root"], context.params["recipe"]) == (str(place), str(data), None)


def test_without_a_root_nothing_is_within_bounds(place: Path) -> None:
    for name in (str(place / "x"), "/", "s3://bucket/x"):
        with pytest.raises(UserError, match="without a root"):
            Roots.of([]).around(name)


def test_a_remote_root_takes_what_is_below_it_alone() -> None:
    roots = Roots.of(["s3://bucket/videos?endpoint_override=store:9000"])
    assert roots.around("s3://bucket/videos/a.mp4") == (
        "s3://bucket/videos/a.mp4?endpoint_override=store:9000",
        roots.places[0],
    )
    for name in (
        "s3://bucket/videos2/a.mp4",
        "s3://bucket/videos/../a.mp4",
        "s3://bucket/videos/%2e%2e/a.mp4",
        "s3://other/videos/a.mp4",
        "s3://bucket/videos/a.mp4?endpoint_override=elsewhere:1",
        "s3://user:key@bucket/videos/a.mp4",
        "gs://bucket/videos/a.mp4",
        "/videos/a.mp4",
    ):
        with pytest.raises(UserError, match="is refused"):
            roots.around(name)


def test_what_serve_is_told_wrongly_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for root in (str(tmp_path / "none"), "http://host/x", "s3://user:key@bucket/x", ""):
        with pytest.raises(UserError, match="root") as told:
            Roots.of([root])
        assert "key" not in str(told.value) and "\n" not in str(told.value)
    with pytest.raises(UserError, match="is no address of a Ray job server"):
        serve._ray("ftp://host")
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    assert serve._ray(None) is None and "RAY_ADDRESS" in os.environ
    assert serve._ray("host:8265") is not None and "RAY_ADDRESS" not in os.environ, "or Ray's client would go there"


def test_sources_of_two_roots_are_two_jobs(working: Working, data: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    roots = Roots.of([str(data), str(tmp_path / "more")])
    bounds = replace(working.served.bounds(), roots=roots)
    assert bounds.sources([f"{tmp_path}/more/a"]) == ([f"{tmp_path}/more/a"], str(tmp_path / "more"))
    with pytest.raises(UserError, match="they lie in 2 roots"):
        bounds.sources([f"{data}/a", f"{tmp_path}/more/a"])


def test_the_jobs_of_others_are_not_there(
    client: TestClient, ray: ray_jobs.Client, working: Working, place: Path
) -> None:
    ray.add("another", "RUNNING", f"ziggurat curate /x --to {place}")
    ray.found["another"].metadata = {of_pyramid.PYRAMID: "/elsewhere", of_pyramid.REQUEST: '{"command": "fill"}'}
    assert client.get("/api/jobs").json() == {"jobs": []}
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry"), ("GET", "/logs")):
        assert client.request(method, f"/api/jobs/another{path}").status_code == 404, path
    assert ray.asked == [] and len(ray.found) == 1
    recorded(working, "another")  # its run has left its record here: now it is ours
    assert client.get("/api/jobs/another").json()["state"] == "running"
    assert client.post("/api/jobs/another/cancel").json()["status"] == "STOPPED"
    ray.found["another"].metadata = {}
    assert "was not sent" in client.post("/api/jobs/another/retry").json()["detail"]
    (working.place / "runs" / "1.json").unlink()


def recorded(working: Working, job: str) -> None:
    now = runs.utc()
    runs.write(
        working.served.pyramid().files,
        runs.Run("1", ("ziggurat",), "small", 1, {}, runs.this_process(), now, now, submission=job),
    )


def test_a_job_is_cancelled_and_sent_again_as_another_one(
    client: TestClient, ray: ray_jobs.Client, data: Path, place: Path
) -> None:
    first = client.post("/api/jobs", json=body(data, place, **CURATE)).json()["id"]
    assert "is at work" in client.post(f"/api/jobs/{first}/retry").json()["detail"]
    assert client.post(f"/api/jobs/{first}/cancel").json()["asked"] is True
    answer = client.post(f"/api/jobs/{first}/retry")
    assert answer.status_code == 201 and answer.json()["id"] != first
    assert sent(ray)[0] == sent(ray)[1]
    ray.found[answer.json()["id"]].status.value = "FAILED"
    (data / "videos").rmdir()
    (data / "videos").symlink_to("/etc")
    try:
        assert client.post(f"/api/jobs/{answer.json()['id']}/retry").json()["field"] == "sources", "it is judged anew"
    finally:
        (data / "videos").unlink()
        (data / "videos").mkdir()
    assert len(ray.found) == 2


def test_what_a_job_says_is_followed_by_ranges(
    client: TestClient, ray: ray_jobs.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = client.post("/api/jobs", json={"command": "duplicates"}).json()["id"]
    said = "<script>eins</script>\nzwölf\n"
    monkeypatch.setattr(ray, "get_job_logs", lambda job: said)
    whole = client.get(f"/api/jobs/{job}/logs")
    assert whole.text == said and whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.headers["x-content-type-options"] == "nosniff"
    nothing = client.get(f"/api/jobs/{job}/logs", headers={"Range": f"bytes={len(whole.content)}-"})
    assert nothing.status_code == 416 and nothing.headers["content-range"] == f"bytes */{len(whole.content)}"
    before, said = len(whole.content), said + "more\n"
    more = client.get(f"/api/jobs/{job}/logs", headers={"Range": f"bytes={before}-"})
    assert (more.status_code, more.text) == (206, "more\n")
    assert more.headers["content-range"] == f"bytes {before}-{before + 4}/{before + 5}"


def test_so_many_jobs_are_at_work_and_no_more(
    client: TestClient, ray: ray_jobs.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_pyramid, "MOST_LIVE", 2)
    ray.add("another", "RUNNING")
    for _ in range(2):
        assert client.post("/api/jobs", json={"command": "fill"}).status_code == 201
    answer = client.post("/api/jobs", json={"command": "fill"})
    assert answer.status_code == 429 and answer.headers["retry-after"] and "2 jobs" in answer.json()["detail"]
    long = {"command": "embed", "spaces": ["s" * 80] * 100}
    monkeypatch.setattr(of_pyramid, "LONGEST", 1000)
    assert client.post("/api/jobs", json=long).status_code == 422 and len(ray.found) == 3


def test_a_cluster_that_is_not_there_is_one_line(
    client: TestClient, working: Working, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = (
        ("GET", "/jobs"),
        ("POST", "/jobs"),
        ("GET", "/jobs/a"),
        ("POST", "/jobs/a/cancel"),
        ("GET", "/jobs/a/logs"),
    )

    def answers() -> list[dict[str, Any]]:
        found = [client.request(method, f"/api{path}", json={"command": "fill"}) for method, path in paths]
        assert {one.status_code for one in found} == {503}
        return [one.json() for one in found]

    from pipelines.commands.jobs.server import _RayServer, connected

    monkeypatch.setattr(_RayServer, "_made", lambda self, address: (_ for _ in ()).throw(ConnectionError("refused")))
    monkeypatch.setattr(
        working.served, "jobs", PyramidJobs(str(working.place), lambda: connected("http://127.0.0.1:1"), GROUP)
    )
    assert all("no Ray job server answers" in one["detail"] for one in answers())
    monkeypatch.setattr(working.served, "jobs", None)
    assert all("without a Ray job server" in one["detail"] and "--address" in one["remedy"] for one in answers())


def test_what_is_kept_beside_a_job_is_the_request_alone(client: TestClient, ray: ray_jobs.Client, place: Path) -> None:
    client.post("/api/jobs", json={"command": "fill"})
    ((job, told),) = ray.found.items()
    assert told.metadata == {
        of_pyramid.PYRAMID: str(place),
        of_pyramid.REQUEST: json.dumps({"command": "fill"}, separators=(",", ":")),
        of_pyramid.BY: "a test",
    }
    assert job.startswith("curate-")
