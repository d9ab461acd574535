"""Filters are tried out before a run: what is not as it should be is one line, and an interpreter cannot hang it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from curation import interpreters
from curation.errors import UserError
from curation.filters import trial
from curation.filters.ocr.base import OcrParameters, shipped_models, text_area_fingerprint
from curation.filters.trial import GET, try_out

PYTHON = ".".join(map(str, sys.version_info[:3]))
Program = Callable[[str], str]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Makes an executable of a shell script; its path."""

    def make(script: str) -> str:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


def ocr(**settings: object) -> str:
    return json.dumps(
        {"filter": "ocr", "engine": "rapidocr", "models": str(shipped_models()), "parameters": {}} | settings
    )


def test_a_filter_that_works_says_which_it_is() -> None:
    parameters = {"line": None, "low": 0.0}
    by = text_area_fingerprint("rapidocr", shipped_models(), OcrParameters(line=None, low=0.0))
    assert try_out(ocr(parameters=parameters)) == f"{by} measured a frame"


def test_a_filter_may_live_in_another_interpreter(program: Program) -> None:
    other = program(f'exec {sys.executable} "$@"')
    assert try_out(ocr(), other).startswith("text_area-")


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"models": "/nowhere"}, "no PP-OCRv6_det_small.onnx in /nowhere"),
        ({"parameters": {"sides": 3}}, "the ocr filter cannot start: TypeError: .*unexpected keyword argument 'sides'"),
        ({"filter": "taste"}, "the taste filter cannot start: ValueError: no sample filter is called 'taste'"),
    ],
)
def test_what_is_wrong_with_a_filter_is_one_line(settings: dict[str, object], cause: str) -> None:
    with pytest.raises(UserError, match=cause) as caught:
        try_out(ocr(**settings))
    assert "\n" not in str(caught.value)
    assert caught.value.remedy


def test_weights_that_hold_something_else_are_told(tmp_path: Path) -> None:
    pytest.importorskip("open_clip", reason="open_clip is not installed")
    (tmp_path / "clip.safetensors").write_bytes(b"weights")
    (tmp_path / "head.pth").write_bytes(b"weights")
    files = {"clip": str(tmp_path / "clip.safetensors"), "head": str(tmp_path / "head.pth")}
    with pytest.raises(UserError, match=r"clip.safetensors does not hold plain weights .*; hf download"):
        try_out(json.dumps({"filter": "aesthetic", **files, "dtype": "fp32", "device": "cpu"}))


def answer(python: str, ray: str) -> str:
    return f"echo '{json.dumps([python, ray])}'"


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        (answer(PYTHON, ""), "is of an environment without Ray"),
        (answer(PYTHON, "2.1.0"), "has Ray 2.1.0, this is Ray"),
        (answer("3.1.0", metadata.version("ray")), f"has Python 3.1.0, this is Python {PYTHON}: they must be the same"),
        ("echo no such library >&2; exit 3", r"is no Python: it ended with code 3 \(no such library\)"),
        ("kill -11 $$", "is no Python: it died of signal 11"),
        ("exec sleep 600", "gave no answer in 2 s"),
    ],
)
def test_an_interpreter_that_ray_would_wait_for_is_told_at_once(program: Program, script: str, cause: str) -> None:
    with pytest.raises(UserError, match=cause):
        interpreters.check(program(script), GET, within_s=2)


def test_an_interpreter_must_be_a_program(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    (tmp_path / "other").write_bytes(b"\x7fELF")
    (tmp_path / "other").chmod(0o755)
    for name in ("gone", "text", "."):
        with pytest.raises(UserError, match="is not there, or no program"):
            interpreters.check(str(tmp_path / name), GET)
    with pytest.raises(UserError, match="does not run"):
        interpreters.check(str(tmp_path / "other"), GET)


def test_ours_is_good() -> None:
    interpreters.check(sys.executable, GET)


def test_a_trial_that_crashes_or_hangs_ends_in_one_line(program: Program) -> None:
    versions = answer(PYTHON, metadata.version("ray"))
    crashes = program(f'case "$2" in *make_nothing*|*trial.main*) kill -11 $$;; *) {versions};; esac')
    with pytest.raises(UserError, match="the ocr filter died of signal 11"):
        try_out(ocr(), crashes)
    hangs = program(f'case "$2" in *trial.main*) exec sleep 600;; *) {versions};; esac')
    with pytest.raises(UserError, match="the ocr filter gave no answer in 3 s"):
        try_out(ocr(models="/other"), hangs, 3)


def test_packages_beside_ours_do_not_hide_those_of_the_other_environment(program: Program, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    versions = answer(PYTHON, metadata.version("ray"))
    other = program(f'case "$2" in *trial.main*) echo "$PYTHONPATH" > {seen}; exit 1;; *) {versions};; esac')
    with pytest.raises(UserError, match="ended with code 1"):
        try_out(ocr(models="/beside"), other)
    assert str(trial._ROOT) not in seen.read_text()
