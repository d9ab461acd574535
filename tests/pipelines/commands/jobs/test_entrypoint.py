"""The command line of a job: the command's own parser judges it, and on the cluster it means what it meant here."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer

from curation.errors import UserError
from pipelines.cli import app
from pipelines.commands.jobs.entrypoint import COMMANDS, Entrypoint, entrypoint

GROUP: Any = typer.main.get_command(app)
NO_PLACES = {
    "address", "sidecars", "tier", "names", "spaces", "reason", "changes", "engine",
}  # fmt: skip
"""Parameters of jobs that take a text which is no path."""


def of(*typed: str) -> Entrypoint:
    return entrypoint(GROUP, typed)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for folder in ("in", "p"):
        (tmp_path / folder).mkdir()
    (tmp_path / "own.toml").touch()
    return tmp_path


def test_relative_paths_become_those_of_this_folder_and_uris_and_names_stay(here: Path) -> None:
    found = of("curate", "in", "s3://b/x", "--to", "out p", "--recipe", "own.toml", "--root", "in", "--retry")
    assert found.words == (
        *("ziggurat", "curate", f"{here}/in", "s3://b/x", "--to", f"{here}/out p", "--recipe", f"{here}/own.toml"),
        *("--retry", "--root", f"{here}/in", "--address", "auto"),
    )
    assert found.local == (f"{here}/in", f"{here}/out p", f"{here}/own.toml", f"{here}/in")
    assert "small" in of("curate", "in", "--to", "s3://b/p", "-r", "small").words
    assert of("encode", "p#one", "-m", "tiny", "--to", "l").words[2:] == (
        *(f"{here}/p#one", "--model", "tiny", "--to", f"{here}/l", "--address", "auto"),
    )


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ((), "no command is given"),
        (("query", "p"), "'query' is no job"),
        (("curate", "nothing", "--to", "p"), "nothing is not there"),
        (("cut", "q", "--tier", "a"), "q is not there"),
        (("curate", "in", "--to", "p", "--recipe", "other.toml"), "other.toml is not there"),
        (("curate", "in", "--to", "p", "--cpus", "2"), "--cpus is of a run on this machine"),
        (("curate", "in", "--to", "p", "--dry-run"), "--dry-run is of a run on this machine"),
        (("curate", "in", "--to", "p", "--address", "h:6379"), "joins the cluster that it is sent to"),
    ],
)
def test_what_cannot_be_a_job_is_one_line(here: Path, typed: tuple[str, ...], why: str) -> None:
    with pytest.raises(UserError, match=why):
        of(*typed)


@pytest.mark.parametrize("typed", [("curate", "in", "--too", "p"), ("cut", "p"), ("retry", "p"), ("train", "p#a")])
def test_what_the_command_would_not_understand_is_its_own_parsers_error(here: Path, typed: tuple[str, ...]) -> None:
    with pytest.raises(Exception, match=r"No such option|Missing parameter"):
        of(*typed)


def test_what_is_said_again_is_understood_as_before(here: Path) -> None:
    """Negative numbers, repeated options, names that look like options, flags that are switched off."""
    typed = ("train", "p#a", "--latents", "l", "--to", "r", "--set", "a=1", "--set=-b=2", "--workers", "2")
    (here / "l").mkdir()
    (here / "-odd").mkdir()
    for one in (typed, ("curate", "--to", "p", "--", "-odd"), ("caption", "p", "--limit", "3", "--json", "--", "-x")):
        words = of(*one).words
        assert of(*words[1:]).words == words
    assert of(*typed).words[-2:] == ("--address", "auto")
    again = GROUP.commands["train"].make_context("train", list(of(*typed).words[2:]))
    assert again.params["changes"] == ["a=1", "-b=2"]


def test_training_without_ray_joins_none(here: Path) -> None:
    (here / "l").mkdir()
    assert "--address" not in of("train", "p#a", "--latents", "l", "--to", "r").words


def test_every_parameter_that_may_be_a_place_is_known_as_one() -> None:
    for name, places in COMMANDS.items():
        hints = get_type_hints(inspect.unwrap(GROUP.commands[name].callback))
        texts = {
            parameter for parameter, hint in hints.items() if hint in (str, str | None, list[str], list[str] | None)
        }
        assert texts - {*places} - NO_PLACES == set(), name
        assert {*places} <= texts
