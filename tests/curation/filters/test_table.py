"""The table of scores and filters: one list, whose lines hold what they say and load no more than they need."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from curation.contract import CLIPS, SCORES, scores_among
from curation.errors import UserError
from curation.filters.section import FilterSection, section_of
from curation.filters.table import FILTERS, FRAME_SCORES, Filter, filter_of
from curation.media.plan import MediaPlan
from curation.rows import frame_fingerprints
from pipelines.config.sections import STAGES, CustomSection, FiltersSection

ROOT = Path(__file__).resolve().parents[3]
each = pytest.mark.parametrize("one", FILTERS, ids=lambda one: one.name)


def loaded(code: str) -> set[str]:
    """The modules that a fresh interpreter has after some code."""
    script = f"import json, sys\n{code}\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(json.loads(done.stdout))


def test_the_scores_of_every_pyramid_are_those_of_the_table_in_its_order() -> None:
    assert (*FRAME_SCORES, *(score for one in FILTERS for score in one.scores)) == SCORES
    assert tuple(scores_among(CLIPS.names)) == SCORES
    assert tuple(frame_fingerprints(MediaPlan())) == FRAME_SCORES
    assert SCORES == ("motion", "sharpness", "jitter", "text_area", "aesthetic"), "pyramids have these columns"


def test_names_are_given_once_and_mean_nothing_else() -> None:
    names = [one.name for one in FILTERS]
    assert len(set(SCORES)) == len(SCORES) and len(set(STAGES)) == len(STAGES)
    assert list(FiltersSection.model_fields) == ["score_side", *names, "custom"]
    assert not set(names) & {"measure", "fetch", "cut", "ours"}


@each
def test_a_line_names_a_section_with_explained_keys(one: Filter) -> None:
    section = section_of(one)
    assert list(section.model_fields)[:2] == ["enabled", "from_tier"]
    assert all(field.description for field in section.model_fields.values())
    assert section.__doc__ and section.__doc__ != FilterSection.__doc__
    assert filter_of(one.name) is one


@each
def test_a_worker_makes_the_filter_that_the_driver_expects(one: Filter) -> None:
    """From what a message can carry; else every run would make the score again."""
    section = section_of(one)()
    try:
        spec = section.spec()
    except UserError as error:
        pytest.skip(error.cause)
    assert spec is not None
    made = section_of(one).make(**json.loads(json.dumps(spec.settings)))
    assert (made.name, tuple(made.scores), made.fingerprint) == (one.name, one.scores, spec.fingerprint)


def test_a_filter_that_is_not_there_is_told() -> None:
    with pytest.raises(ValueError, match="no sample filter is called 'taste'"):
        filter_of("taste")
    with pytest.raises(ValueError, match="is a stage"):
        CustomSection(name=FILTERS[0].name, filter="a:B")


def test_a_section_must_say_how_its_filter_runs() -> None:
    class Silent(FilterSection):
        """Says nothing."""

    with pytest.raises(TypeError, match="abstract"):
        Silent()  # pyright: ignore[reportAbstractUsage]


def test_the_table_loads_nothing_of_ours() -> None:
    found = {name for name in loaded("import curation.filters.table") if name.startswith(("curation", "pipelines"))}
    assert found == {"curation", "curation.filters", "curation.filters.table"}


@each
def test_one_filter_s_section_loads_no_other_s_and_no_network(one: Filter) -> None:
    code = "from curation.filters.section import section_of\nfrom curation.filters.table import filter_of\n"
    found = loaded(f"{code}section_of(filter_of({one.name!r}))()")
    others = {other.section.partition(":")[0] for other in FILTERS if other is not one}
    heavy = {"torch", "open_clip", "rapidocr", "onnxruntime", "paddleocr", "ray", "pyarrow", "lance", "av", "cv2"}
    assert not found & (others | heavy)
