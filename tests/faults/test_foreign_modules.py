"""No process of a command runs a file because it lies where the command was typed, or in the temporary folder: both may
be full of strangers' files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from curation.pyramid.store import Pyramid
from tests.support import jobs, media

_ASSIGNS = """
import os
with open(os.path.join({marks!r}, {name!r}), "a") as stream:
    stream.write(os.path.abspath(__file__))
raise ImportError("a stranger's file was run")
"""


def modules() -> set[str]:
    """Every name under which a process could look for a module: of the library, of packages, of ours."""
    installed = {name for name in metadata.packages_distributions() if name.isidentifier()}
    return {*sys.stdlib_module_names, *installed, "curation", "pipelines", "training", "kernels", "sitecustomize"}


@pytest.fixture
def strangers(tmp_path: Path) -> Path:
    """A folder with a video, and a file for every module, which leaves a mark when it is run."""
    folder, marks = tmp_path / "downloads", tmp_path / "marks"
    folder.mkdir()
    marks.mkdir()
    media.make(folder / "video.mp4", seconds=3)
    for name in modules():
        (folder / f"{name}.py").write_text(_ASSIGNS.format(marks=str(marks), name=name))
    return folder


@pytest.mark.parametrize("detector", ["scene", pytest.param("transnet", marks=pytest.mark.slow)])
def test_a_strangers_file_is_not_run(strangers: Path, tmp_path: Path, detector: str) -> None:
    # Room for torch.
    text = jobs.RECIPE.replace("memory_mb = 1024", "memory_mb = 4096").replace("cpu_s = 4.0", "cpu_s = 120.0")
    recipe = jobs.recipe(tmp_path, f'{text}[shots]\ndetector = "{detector}"\n')
    command = ["curate", ".", "--to", "../pyramid", "--recipe", recipe, "--cpus", jobs.CPUS]
    more = {"PYTHONPATH": str(jobs.ROOT), "TMPDIR": str(strangers), "RAY_TMPDIR": "/tmp", "RAY_worker_niceness": "0"}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pipelines.cli", *command],
        cwd=strangers,
        env=os.environ | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    assert sorted(path.name for path in (tmp_path / "marks").iterdir()) == []
    assert done.returncode == 0, done.stderr
    assert Pyramid.open(tmp_path / "pyramid").query().count() == 1
