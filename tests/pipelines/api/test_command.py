"""`ziggurat serve` and `ziggurat tokens` as a person types them."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.commands.service import serve
from tests.support import jobs


@pytest.fixture
def running(place: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command at work, and its address."""
    process = jobs.start("serve", str(place), "--port", "0", "--json")
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    yield process, json.loads(line)["address"]
    if process.poll() is None:
        jobs.kill(process)


def got(address: str, token: str | None = None) -> tuple[int, bytes]:
    request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_serves_until_a_signal_comes(
    running: tuple[subprocess.Popen[str], str], place: Path, by: signal.Signals, code: int
) -> None:
    process, address = running
    made = jobs.run("tokens", str(place), "--make", "a program", "--scopes", "read", "--json")
    (told,) = made.events
    assert made.code == 0 and got(f"{address}/api/outcomes")[0] == 401
    status, content = got(f"{address}/api/outcomes", told["token"])
    assert status == 200 and json.loads(content)["clips"] == 10
    assert got(f"{address}/health")[0] == 200
    revoked = jobs.run("tokens", str(place), "--revoke", told["id"], "--json")
    assert revoked.code == 0
    process.send_signal(by)
    _, error = process.communicate(timeout=60)
    assert process.returncode == code, error
    assert "Traceback" not in error and len(error.strip().splitlines()) == 1


def test_curate_may_work_on_the_pyramid_meanwhile(
    running: tuple[subprocess.Popen[str], str], place: Path, tmp_path: Path
) -> None:
    from tests.support import media, without_ray

    _, address = running
    token = jobs.run("tokens", str(place), "--make", "a program", "--json").events[0]["token"]
    (tmp_path / "more").mkdir()
    media.scenes(tmp_path / "more" / "new.mp4", [3.5], sources=["gradients"], crf=31)
    done = without_ray.run("curate", str(tmp_path / "more"), "--to", str(place), "--json")
    assert done.code == 0, done.error
    assert json.loads(got(f"{address}/api/outcomes", token)[1])["clips"] == 11
    assert len(json.loads(got(f"{address}/api/runs", token)[1])["runs"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("serve", "nowhere"),
        ("serve", "{place}", "--host", "0.0.0.0", "--without-tokens"),
        ("serve", "{place}", "--port", "{taken}"),
        ("serve", "{place}", "--host", "no.such.host.invalid"),
        ("serve", "{place}", "--port", "70000"),
        ("tokens", "{place}", "--make", ""),
        ("tokens", "{place}", "--make", "a", "--scopes", "everything"),
        ("tokens", "{place}", "--make", "a", "--revoke", "b"),
        ("tokens", "{place}", "--make", "a", "--days", "0"),
        ("tokens", "{place}", "--make", "a", "--days", "1e300"),
        ("tokens", "{place}", "--revoke", "none"),
        ("tokens", "nowhere"),
    ],
)
def test_what_is_wrong_is_one_line(place: Path, arguments: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = (one.format(place=place, taken=taken.getsockname()[1]) for one in arguments)
        done = jobs.run(*given)
    assert done.code == 2, done
    assert len(done.error.strip().splitlines()) == 1 and done.error.startswith("ziggurat: "), done.error


@pytest.mark.parametrize(
    ("host", "names", "called"),
    [
        ("127.0.0.1", (), "127.0.0.1"),
        ("0.0.0.0", (), "localhost"),
        ("::", (), "localhost"),
        ("0.0.0.0", ("films.example",), "films.example"),
        ("10.0.0.7", ("films.example",), "10.0.0.7"),
    ],
)
def test_the_link_names_what_a_browser_can_open(host: str, names: tuple[str, ...], called: str) -> None:
    assert serve._called(serve.Request("p", host, names=names)) == called
