"""`ziggurat submit`: nothing is sent that is wrong, and Ray's own command would send the same."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from curation.errors import UserError
from pipelines.cli import app, main
from pipelines.commands.jobs import server as of_jobs
from pipelines.commands.jobs.submit import ENVIRONMENT, Request, Submitted, submit
from tests.support import ray_jobs

GROUP: Any = typer.main.get_command(app)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ray_jobs.Client:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my videos").mkdir()
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    return ray_jobs.Client()


def sent(client: ray_jobs.Client, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Submitted:
    request = Request(("curate", "my videos", "--to", "p'q"), "127.0.0.1:8265", **options)
    return submit(request, GROUP, lambda address: ray_jobs.server(monkeypatch, client, address or ""))


def test_the_cluster_gets_the_command_as_a_shell_reads_it(
    client: ray_jobs.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = sent(client, monkeypatch)
    ((job, told),) = client.found.items()
    assert job == found.id and told.runtime_env == ENVIRONMENT
    assert shlex.split(told.entrypoint) == [
        *("ziggurat", "curate", f"{tmp_path}/my videos", "--to", f"{tmp_path}/p'q", "--address", "auto")
    ]


def test_rays_line_sends_the_same_under_an_id_that_is_free(
    client: ray_jobs.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for is_dry, known in ((True, 0), (False, 1)):
        found = sent(client, monkeypatch, dry_run=is_dry)
        words = shlex.split(found.line)
        options = dict(zip(words[3:9:2], words[4:9:2], strict=True))
        assert words[:3] == ["ray", "job", "submit"] and words[9] == "--"
        assert shlex.join(words[10:]) == found.command
        assert options["--address"] == ray_jobs.ADDRESS
        assert json.loads(options["--runtime-env-json"]) == ENVIRONMENT
        assert options["--submission-id"] not in client.found and len(client.found) == known
        assert (options["--submission-id"] == found.id) == is_dry


def test_rays_line_brings_what_it_would_not_know(client: ray_jobs.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sent(client, monkeypatch).line.startswith("ray job submit")
    monkeypatch.delenv("RAY_AUTH_MODE")
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    before = f"RAY_AUTH_MODE=token RAY_API_SERVER_ADDRESS={ray_jobs.ADDRESS} ray job submit"
    assert sent(client, monkeypatch).line.startswith(before)


def test_an_id_is_good_once_and_in_a_path(client: ray_jobs.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sent(client, monkeypatch, id="mine").id == "mine"
    with pytest.raises(UserError, match="has had a job 'mine' already"):
        sent(client, monkeypatch, id="mine")
    for wrong in ("", "a/b", "../x", "ä", "a" * 101):
        with pytest.raises(UserError, match="is no id of a job"):
            sent(client, monkeypatch, id=wrong)


def test_a_wrong_command_line_is_told_before_the_cluster_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(of_jobs, "_RayServer", asked.append)
    assert main(["submit", "curate", "in", "--colour"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("ziggurat: No such option: --colour") and said.endswith("`ziggurat curate --help`\n")
    assert asked == []


def test_paths_of_this_machine_are_noted_where_the_cluster_is_elsewhere(
    client: ray_jobs.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    request = Request(("curate", "my videos", "--to", "s3://b/p"), "http://head:8265")
    found = submit(request, GROUP, lambda address: ray_jobs.server(monkeypatch, client, address or ""))
    assert [str(tmp_path / "my videos") in note for note in found.notes] == [True]
    assert sent(client, monkeypatch).notes == ()
