"""The Dockerfiles, read: who runs in them, what they are made from, and that what they copy and install is there."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.deploy.manifests import CHART, COMPOSE, DEPLOY, ROOT

FILES = sorted((DEPLOY / "docker").glob("*.Dockerfile"))
OURS = [path for path in FILES if path.name != "endpoint.Dockerfile"]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


@dataclass(frozen=True, slots=True)
class Instruction:
    name: str
    text: str


def read(path: Path) -> list[Instruction]:
    lines = "\n".join(line for line in path.read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", lines)
    pairs = (line.split(maxsplit=1) for line in joined.splitlines() if line.strip())
    return [Instruction(name.upper(), text) for name, text in pairs]


def texts(path: Path, name: str) -> list[str]:
    return [one.text for one in read(path) if one.name == name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_runs_as_a_user_that_is_not_root(path: Path) -> None:
    instructions = read(path)
    (user,) = [one for one in instructions if one.name == "USER"]
    assert re.fullmatch(r"1000:1000", user.text), "numbers, or Kubernetes cannot tell that it is not root"
    after = instructions[instructions.index(user) + 1 :]
    assert {one.name for one in after} <= {"CMD", "ENTRYPOINT"}
    assert any("useradd --uid 1000 " in text for text in texts(path, "RUN"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_base_and_its_packages_are_pinned(path: Path) -> None:
    (base,) = texts(path, "FROM")
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-bookworm", base)
    for run in texts(path, "RUN"):
        for install in re.findall(r"pip install [^&]+", run):
            pinned = "--constraint constraints.txt" in install or re.search(r"==[\d.]+'?\s*$", install.strip())
            assert pinned, install
        assert "curl" not in run and "://" not in run, "what is fetched comes from package indexes alone"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_secret_is_in_it(path: Path) -> None:
    for one in read(path):
        assert not re.search(r"(?i)(token|secret|password|passwd|api_?key|access_?key)\s*=(?!\s*token\b)", one.text)
        assert one.name not in ("ARG", "ADD"), "an argument of a build stays readable in the image"


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_what_it_copies_is_there_and_not_ignored(path: Path) -> None:
    ignored = path.with_name(f"{path.name}.dockerignore").read_text().splitlines()
    assert "*" in ignored, "a folder of keys or films beside the code goes into no image"
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied: set[str] = set()
    for copy in texts(path, "COPY"):
        *sources, _ = copy.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            copied.add(source)
    assert copied == let_in


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_it_has_every_package_of_ours(path: Path) -> None:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    copied = {source for copy in texts(path, "COPY") for source in copy.split()[:-1]}
    assert {pattern.rstrip("*") for pattern in found} <= copied


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_extras_and_targets_that_it_installs_are_there(path: Path) -> None:
    runs = " ".join(texts(path, "RUN"))
    (extras,) = re.findall(r"'\.\[([a-z,]+)\]'", runs)
    assert set(extras.split(",")) <= set(EXTRAS)
    targets = set(re.findall(r"make ([\w./-]+)", runs)) - {"wget"}
    makefile = (ROOT / "Makefile").read_text().replace("$(VENV)", ".venv")
    assert targets == {".venv/core", "env-paddle", "env-vllm"}, "the three environments"
    assert all(re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE) for target in targets)


def test_the_image_for_gpus_has_vllm_s_own_build_and_what_clip_and_training_need() -> None:
    (runs,) = [" ".join(texts(path, "RUN")) for path in OURS if path.name == "gpu.Dockerfile"]
    (extras,) = re.findall(r"'\.\[([a-z,]+)\]'", runs)
    assert {"clip", "train", "colossal", "serve"} <= set(extras.split(","))
    assert "make env-vllm VLLM=vllm" in runs


def test_ray_s_version_is_the_same_everywhere() -> None:
    (pin,) = re.findall(r"^ray==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert yaml.safe_load((CHART / "values.yaml").read_text())["ray"]["version"] == pin
    endpoint = (DEPLOY / "docker" / "endpoint.Dockerfile").read_text()
    assert re.findall(r"ray\[[a-z,]+\]==([\d.]+)", endpoint) == [pin]


def test_images_that_are_used_are_built_by_a_file_and_have_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    built = {tag for path in FILES for tag in re.findall(r"docker build .*-t (\S+) \.", path.read_text())}
    assert built == {f"ziggurat:{version}-cpu", f"ziggurat:{version}-gpu", f"ziggurat-endpoint:{version}"}
    images = yaml.safe_load((CHART / "values.yaml").read_text())["images"]
    used = {value for value in images.values() if isinstance(value, str) and value.startswith("ziggurat")}
    used |= set(re.findall(r"image: (ziggurat\S+)", (DEPLOY / COMPOSE[0]).read_text()))
    used |= set(re.findall(r"image: (ziggurat\S+)", (DEPLOY / "ray" / "cluster.yaml").read_text()))
    assert used == built
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == version
