"""What is shipped compiles with the oldest Triton that is allowed too, which is the one on machines with torch 2.11."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kernels import aot

ROOT = Path(aot.__file__).parents[1]


def oldest() -> str:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (version,) = [found[1] for word in extras["train"] if (found := re.fullmatch(r"triton>=([\d.]+)", word))]
    return version


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_everything_compiles_with_the_oldest_triton(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "site")]
    subprocess.run([*pip, f"triton=={oldest()}.*"], check=True)
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    env |= {"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}", "TRITON_CACHE_DIR": str(tmp_path / "cache")}

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=env, capture_output=True, text=True)

    assert python("-c", "import triton; print(triton.__version__)").stdout.startswith(oldest())
    for module in ("kernels.aot", "tests.support.launches"):
        done = python("-m", module)
        assert done.returncode == 0, done.stdout + done.stderr
