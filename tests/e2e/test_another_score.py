"""A sixth score of Ziggurat's own, as docs/filters.md shows it: a file and a line in a copy of the tree, and all else
follows. The pyramid that it comes to was made by the tree as it is.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import lance
import pytest

from curation.contract import FORMAT_VERSION, SCORES
from curation.errors import UserError
from curation.pyramid.store import Pyramid
from tests.support import jobs, media, without_ray

PAGE = (jobs.ROOT / "docs" / "filters.md").read_text().partition("## A score of Ziggurat's own")[2]
(FILE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
(LINE,) = re.findall(r"^    Filter\(.*\),\n", PAGE, re.MULTILINE)
SCORE = "colourfulness"
HEAD = jobs.WITHOUT_TEXT.replace('"all"', '"vivid"')
HEAD = HEAD.partition("[[tiers]]")[0]
BEFORE = HEAD + '[[tiers]]\nname = "vivid"\n'
AFTER = HEAD + f'[cut]\ntier = "vivid"\n[[tiers]]\nname = "vivid"\n{SCORE} = [40.0, inf]\n'
MANY = """
import contextlib, io, json, sys
from pipelines.cli import main
for arguments in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main(arguments)
    print(json.dumps([code, said.getvalue()]))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree with the file and the line."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("curation", "pipelines"):
        shutil.copytree(jobs.ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "curation" / "filters" / "colour.py").write_text(FILE)
    table = folder / "curation" / "filters" / "table.py"
    before = table.read_text()
    table.write_text(before.replace("FILTERS = (\n", f"FILTERS = (\n{LINE}"))
    assert table.read_text() != before
    return folder


@pytest.fixture(scope="module")
def pyramid(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a colourful and of a white video, made without the score, then with it."""
    folder = tmp_path_factory.mktemp("six")
    (folder / "videos").mkdir()
    media.scenes(folder / "videos" / "vivid.mp4", (3,), sources=("testsrc2",), crf=28)
    media.scenes(folder / "videos" / "white.mp4", (3,), sources=("white",), crf=28)
    first = without_ray.curate(folder / "videos", folder / "p", jobs.recipe(folder, BEFORE))
    assert first.summary["clips"] == 2 and SCORE not in Pyramid.open(folder / "p").dataset("clips").schema.names
    return folder / "p"


def environment(tree: Path) -> dict[str, str]:
    """The copy before the tree itself, for what a command runs by itself too."""
    return {"PYTHONPATH": f"{tree}:{jobs.ROOT}"}


def said(tree: Path, *commands: tuple[str, ...]) -> list[str]:
    """What commands of the copy print, which all succeed."""
    process = jobs.start(json.dumps(commands), code=MANY, cwd=tree, **environment(tree))
    out, error = process.communicate(timeout=600)
    answers = [json.loads(line) for line in out.splitlines()]
    assert [code for code, _ in answers] == [0] * len(commands), (answers, error)
    return [text for _, text in answers]


def python(tree: Path, code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**environment(tree), "PATH": ""},
        timeout=600,
        cwd=tree,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_file_and_a_line_are_all(tree: Path) -> None:
    """The columns, the recipe's table and its messages, its page, and that workers make the filter that the driver
    expects.
    """
    code = """
import json, sys
from curation.contract import CLIPS, SCORES
from curation.errors import UserError
from curation.filters.table import __file__
from pipelines.config import filters, reference
from pipelines.config.recipe import differences, parsed
assert __file__.startswith(sys.argv[1]), __file__
off = 'name = "r"\\n[filters.ocr]\\nenabled = false\\n[filters.aesthetic]\\nenabled = false\\n[filters.colour]\\n'
def wrong(text):
    try: parsed(off + text, "r")
    except UserError as error: return error.cause
usual, other = (filters.listed(parsed(off + text, "r")) for text in ("", "grey = 0.5"))
print(json.dumps({
    "scores": SCORES,
    "columns": [name for name in CLIPS.names if name.startswith("colourfulness")],
    "wrong": [wrong("gray = 1"), wrong("grey = -1"), wrong('from_tier = "x"'),
              wrong('[[tiers]]\\nname = "a"\\ncolour = [1, 2]'),
              wrong('[[filters.custom]]\\nname = "colour"\\nfilter = "a:B"')],
    "names": [one.name for one in usual],
    "made": [one.make().fingerprint == one.fingerprint for one in (usual[0], other[0])],
    "apart": usual[0].fingerprint != other[0].fingerprint,
    "tried": filters.trials(parsed(off, "r"))[0].run(),
    "page": reference.page(),
    "differs": differences(parsed(off, "r"), parsed(off + "grey = 0.5", "r")),
}))
"""
    found = json.loads(python(tree, code, str(tree)))
    assert found["scores"] == [*SCORES[:3], SCORE, *SCORES[3:]]
    assert found["columns"] == [SCORE, f"{SCORE}_by", f"{SCORE}_why"]
    unknown, low, tier, column, name = found["wrong"]
    assert unknown.endswith("filters.colour.gray = 1: no such key; allowed are enabled, from_tier, grey")
    assert "filters.colour.grey = -1: input should be greater than or equal to 0" in low
    assert "filters.colour.from_tier = 'x'" in tier
    assert f"allowed are motion, sharpness, jitter, {SCORE}, text_area, aesthetic, " in column
    assert "'colour' is a stage or a reason of Ziggurat's own" in name
    assert found["names"] == ["colour", "ocr", "aesthetic"]
    assert found["made"] == [True, True] and found["apart"]
    assert found["tried"].startswith("colour-1-") and found["tried"].endswith(" measured a frame")
    assert "\n## [filters.colour]\n\nColourfulness (docs/filters.md).\n" in found["page"]
    assert "| `grey` | number, from 0 | 0.3 | What the distance from grey counts" in found["page"]
    assert f"`jitter`, `{SCORE}`, `text_area`" in found["page"]
    assert found["differs"] == ["filters.colour.grey 0.3 -> 0.5"]


def test_doctor_tries_it(tree: Path, tmp_path: Path) -> None:
    (told,) = said(tree, ("doctor", "-r", jobs.recipe(tmp_path, AFTER), "--json"))
    lines = {line["name"]: line for line in map(json.loads, told.splitlines())}
    assert lines["filters"]["present"] and "colour" in lines["filters"]["value"]


def test_a_pyramid_of_before_gains_it_and_every_command_knows_it(tree: Path, pyramid: Path, tmp_path: Path) -> None:
    here = str(pyramid)
    before, *_ = said(tree, ("query", here, "--json"), ("tiers", here), ("why", here, "white.mp4"))
    assert [json.loads(line)[SCORE] for line in before.splitlines()] == [None, None]

    to = ("--to", here, "--recipe", jobs.recipe(tmp_path, AFTER), "--replace-recipe", "--cpus", jobs.CPUS, "--json")
    videos = str(pyramid.parent / "videos")
    again = jobs.finish(jobs.start("curate", videos, *to, cwd=tree, **environment(tree)))
    assert again.code == 0, again.error
    assert again.summary["scored"] == {SCORE: 2} and again.summary["frames_decoded"] > 0, "one is cut"
    assert (again.summary["cut"], again.summary["clips"]) == (1, 0)

    clips, count, tiers, why, *_ = said(
        tree,
        ("query", here, "--order", f"-{SCORE}", "--json"),
        ("query", here, f"--{SCORE}", "40..", "--count"),
        ("tiers", here),
        ("why", here, "white.mp4"),
        ("query", here, "-o", str(tmp_path / "all.csv")),
        ("sheet", here, "-o", str(tmp_path / "sheet.png")),
        ("tiers", here, "--move", "vivid", f"--{SCORE}", "0.."),
    )
    first, last = map(json.loads, clips.splitlines())
    assert first[SCORE] > 40 > last[SCORE] and first["tier"] == "vivid" and last["tier"] is None
    assert count.split()[0] == "1"
    assert SCORE in tiers and SCORE in why
    header = (tmp_path / "all.csv").read_text().splitlines()[0].split(",")
    assert {SCORE, f"{SCORE}_by", f"{SCORE}_why"} <= set(header)
    rows = lance.dataset(f"{here}/clips.lance").to_table(columns=[f"{SCORE}_by", "tier"]).to_pylist()
    assert {row[f"{SCORE}_by"][:9] for row in rows} == {"colour-1-"} and {row["tier"] for row in rows} == {"vivid"}
    assert json.loads((pyramid / "pyramid.json").read_text())["format"] == FORMAT_VERSION
    with pytest.raises(UserError, match=f"no column '{SCORE}'.*; restore the file, or upgrade ziggurat"):
        Pyramid.open(here)
