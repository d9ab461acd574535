"""What is asked of a cluster's job server: addresses, and every failure as one line with a remedy."""

from __future__ import annotations

import os
import socket

import pytest

from curation.errors import UserError
from pipelines.commands.jobs import server as of_jobs
from pipelines.commands.jobs.server import checked, connected
from tests.support import ray_jobs


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("head:8265", "http://head:8265"),
        ("https://head/", "https://head"),
        ("http://[::1]:8265", "http://[::1]:8265"),
        ("ftp://head", None),
        ("ray://head:10001", None),
        ("http://head:0", None),
        ("http://head:99999", None),
        ("http://", None),
        ("", None),
        ("http://head?x=1", None),
    ],
)
def test_addresses(address: str, url: str | None) -> None:
    if url is None:
        with pytest.raises(UserError, match="is no address of a Ray job server"):
            checked(address)
    else:
        assert checked(address) == url


def test_the_address_that_is_given_counts_and_not_rays_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's own client goes where these say, whatever it is given."""
    seen: list[tuple[str, set[str]]] = []
    monkeypatch.setattr(
        of_jobs._RayServer, "_made", lambda self, address: seen.append((address, {*of_jobs.OUTDO} & {*os.environ}))
    )
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere:6379")
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://there:1")
    connected("http://here:2")
    connected(None)
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
    connected(None)
    assert seen == [("http://here:2", set()), ("http://there:1", set()), (of_jobs.DEFAULT, set())]
    assert os.environ["RAY_ADDRESS"] == "elsewhere:6379"


class AuthenticationError(Exception):
    """By the name that Ray's has."""


class ReadTimeout(TimeoutError):
    """As that of requests."""


@pytest.mark.parametrize(
    ("error", "cause", "remedy"),
    [
        (RuntimeError("The Ray jobs CLI & SDK require the ray[default] installation"), "job client", "ziggurat[jobs]"),
        (ModuleNotFoundError("No module named 'aiohttp'"), "job client", "ziggurat[jobs]"),
        (AuthenticationError("the token is invalid. Ensure\nmore"), "not let us in: the token is invalid", "RAY_AUTH"),
        (ConnectionError("Failed to connect to Ray"), "no connection", "dashboard"),
        (ReadTimeout("read"), "no answer in time", "dashboard"),
        (RuntimeError("Request failed with status code 500: Traceback:\n  x\nValueError: no\n.\n"), "no", "head node"),
        (ValueError(""), "refuses: ValueError", "head node"),
    ],
)
def test_what_ray_raises_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception, cause: str, remedy: str
) -> None:
    def raising() -> None:
        raise error

    client = ray_jobs.Client()
    server = ray_jobs.server(monkeypatch, client)
    monkeypatch.setattr(client, "list_jobs", raising)
    with pytest.raises(UserError) as told:
        server.jobs()
    assert cause in told.value.cause and remedy in told.value.remedy and "\n" not in str(told.value)


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aiohttp", reason="needs the extra `jobs`")
    monkeypatch.setattr(of_jobs, "BOUND_S", 0.4)
    monkeypatch.setattr(of_jobs, "_CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UserError, match="no answer in time"):
        connected(f"http://127.0.0.1:{(port := silent.getsockname()[1])}")
    with pytest.raises(UserError, match="no connection"):
        connected(f"http://127.0.0.1:{port}")


def test_jobs_come_in_order_without_drivers_that_nobody_submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ray_jobs.Client()
    client.add("late", "RUNNING", began=1_796_000_100_000)
    client.add(None, "RUNNING")
    client.add("waits", "PENDING", began=0)
    client.add("early", "FAILED", began=1_796_000_000_000)
    found = ray_jobs.server(monkeypatch, client).jobs()
    assert [(one.id, one.started) for one in found] == [
        ("early", "2026-11-30T00:53:20+00:00"),
        ("late", "2026-11-30T00:55:00+00:00"),
        ("waits", None),
    ]
