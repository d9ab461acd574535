"""Commands that deploy/ and docs/deploy.md run are there: `ziggurat` and its options, `ray` and its own, and the files.

Command lines are taken out of the chart's manifests, the compose files and the indented blocks of the page.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
import yaml

from pipelines.cli import app
from tests.deploy.manifests import DEPLOY, ROOT, Document, compose, of_kind, pods
from tests.deploy.page import PAGE, commands


def of_manifests(made: list[Document]) -> Iterator[list[str]]:
    for job in of_kind(made, "RayJob"):
        yield shlex.split(job["spec"]["entrypoint"])
    for pod in pods(made):
        for container in pod.containers:
            if "command" in container:
                yield [*container["command"], *container.get("args", [])]


def check_ziggurat(words: list[str]) -> None:
    """Parse as the program does; nothing is run. Options, their values' types and arguments are all looked at."""
    command: Any = typer.main.get_command(app)
    rest = words[1:]
    while hasattr(command, "commands"):
        assert rest, f"{words} names no command"
        name, *rest = rest
        assert name in command.commands, f"there is no command {name!r}: {words}"
        command = command.commands[name]
    try:
        command.make_context(words[1], rest)
    except Exception as error:
        raise AssertionError(f"{shlex.join(words)}: {error}") from error


def options_of_ray(command: str) -> set[str]:
    from ray.scripts import scripts

    return {option for one in scripts.cli.commands[command].params for option in one.opts}


def check_ray(words: list[str]) -> None:
    """Options by name: what Ray makes of them it says only when it runs."""
    from ray.scripts import scripts

    assert words[1] in scripts.cli.commands, words
    for word in words[2:]:
        if word.startswith("-"):
            assert word.partition("=")[0] in options_of_ray(words[1]), words


def test_commands_in_manifests_are_there(made: list[Document]) -> None:
    for words in of_manifests(made):
        assert words[0] == "ziggurat"
        check_ziggurat(words)


def test_commands_in_compose_are_there() -> None:
    called = {name: [str(word) for word in service["command"]] for name, service in compose().items()}
    check_ziggurat(called.pop("service"))
    del called["store"]
    assert all(words[0] == "ray" for words in called.values())
    for words in called.values():
        check_ray(words)


def test_commands_of_ray_up_are_there() -> None:
    cluster = yaml.safe_load((DEPLOY / "ray" / "cluster.yaml").read_text())
    for line in [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]:
        words = shlex.split(line)
        check_ray(words[words.index("ray") :])


def test_commands_in_the_page_are_there() -> None:
    found = commands("ziggurat")
    assert {words[1] for words in found} >= {"curate", "serve", "tokens", "doctor", "tiers"}
    for words in found:
        check_ziggurat(words)


def test_commands_of_ray_in_the_page_are_there() -> None:
    found = commands("ray")
    for words in found:
        if words[1] == "exec":
            check_ziggurat(shlex.split(words[3]))
    assert {words[1] for words in found} >= {"start", "stop"}
    for words in found:
        check_ray(words)


@pytest.mark.parametrize(
    "line",
    [
        "ziggurat curated x",
        "ziggurat curate x --two y",
        "ziggurat serve p --port many",
        "ziggurat serve",
        "ziggurat lora",
    ],
)
def test_a_command_that_is_not_there_is_found(line: str) -> None:
    with pytest.raises((AssertionError, ValueError)):
        check_ziggurat(shlex.split(line))


def test_files_that_the_page_names_are_there() -> None:
    text = PAGE.read_text()
    named = set(re.findall(r"(?<![\w/])deploy/[\w./-]+\w", text))
    assert len(named) > 5
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_keys_of_values_that_the_page_sets_are_there() -> None:
    values = yaml.safe_load((DEPLOY / "chart" / "values.yaml").read_text())
    named = re.findall(r"--set (?:[a-z]+ )?([A-Za-z.]+)=", PAGE.read_text())
    named += re.findall(r"^\s+--set-string ([A-Za-z.]+)=", PAGE.read_text(), re.MULTILINE)
    assert named
    for key in named:
        at: Any = values
        for step in key.split("."):
            assert step in at, key
            at = at[step]
