"""vLLM's environment, model and arguments are judged before a run: each mistake is one line, and none hangs it. What
vLLM itself says of a model is tested where there is one (`tests/e2e/test_vllm_job.py`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from curation.caption.offline import trial
from curation.caption.offline.base import Settings
from curation.errors import UserError

PYTHON = ".".join(map(str, sys.version_info[:3]))
Program = Callable[..., str]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Makes an interpreter of a shell script, which knows its versions; its path."""

    def make(script: str, ray: str = metadata.version("ray")) -> str:
        path = tmp_path / "python"
        versions = f"echo '{json.dumps([PYTHON, ray])}'"
        path.write_text(f'#!/bin/sh\ncase "$2" in *find_spec*) {script};; *) {versions};; esac\n')
        path.chmod(0o755)
        return str(path)

    return make


def refused(settings: Settings, python: str) -> str:
    with pytest.raises(UserError) as raised:
        trial.check(settings, python)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_an_environment_that_is_not_there_or_is_another_one_is_told(program: Program, tmp_path: Path) -> None:
    told = refused(Settings("org/a"), str(tmp_path / "none"))
    assert "is not there, or no program" in told and "(`make env-vllm`)" in told
    assert "has Ray 2.1.0, this is Ray" in refused(Settings("org/b"), program("exit 1", "2.1.0"))
    bare = program(f'exec {sys._base_executable} -S -P -E "$@"')  # type: ignore[attr-defined]
    told = refused(Settings("org/c"), bare)
    assert "is of an environment without ziggurat; make env-vllm, which puts it there" in told
    assert "there is no vLLM in the environment of captions; make env-vllm" in refused(
        Settings("org/d"), sys.executable
    )


def test_a_trial_that_crashes_is_a_line(program: Program) -> None:
    assert "the trial of org/vlm died of signal 11" in refused(Settings("org/vlm"), program("kill -11 $$"))


def test_nothing_is_fetched_by_a_trial(program: Program, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    refused(Settings("org/offline", gpus=0), program(f"env > {seen}; exit 1"))
    lines = seen.read_text().splitlines()
    assert {"HF_HUB_OFFLINE=1", "VLLM_NO_USAGE_STATS=1", "VLLM_ENABLE_V1_MULTIPROCESSING=0"} <= {*lines}


def test_a_folder_that_is_no_model_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder on this machine"):
        trial.check_folder(str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"has no config.json; name the folder of a model in Hugging Face's format"):
        trial.check_folder(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    trial.check_folder(str(tmp_path))
    trial.check_folder("org/vlm")


def test_an_argument_that_is_none_of_vllm_s_is_told() -> None:
    trial.check_arguments({"dtype": "auto"}, {"dtype", "block_size"})
    with pytest.raises(UserError, match="engine_args has 'dtpye', which vLLM does not know"):
        trial.check_arguments({"dtpye": "auto"}, {"dtype", "block_size"})
