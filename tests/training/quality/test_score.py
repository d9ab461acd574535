"""Normalisation, weights and the choice of metrics; what is missing is named with the command that gets it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from curation.errors import UserError
from training.quality import score as quality
from training.quality.score import SCALES, Files, VBenchScorer, load, missing, score, total


def test_the_constants_are_vbenchs() -> None:
    assert {name: (s.low, s.high, s.weight) for name, s in SCALES.items()} == {
        "subject_consistency": (0.1462, 1, 1),
        "background_consistency": (0.2615, 1, 1),
        "motion_smoothness": (0.706, 0.9975, 1),
        "dynamic_degree": (0, 1, 0.5),
        "aesthetic_quality": (0, 1, 1),
        "imaging_quality": (0, 1, 1),
    }


def test_total_is_the_weighted_mean_of_normalised_scores() -> None:
    raw = {"subject_consistency": 0.5731, "motion_smoothness": 0.9975, "dynamic_degree": 0.0}
    assert total(raw) == pytest.approx((0.5 + 1 + 0.5 * 0) / 2.5)
    assert total({name: scale.high for name, scale in SCALES.items()}) == pytest.approx(1)
    assert total({name: scale.low for name, scale in SCALES.items()}) == pytest.approx(0)


def test_a_user_may_weigh_otherwise() -> None:
    raw = {"aesthetic_quality": 0.2, "dynamic_degree": 1.0}
    assert total(raw, {"aesthetic_quality": 3}) == pytest.approx((3 * 0.2 + 0.5 * 1) / 3.5)
    assert total(raw, {"dynamic_degree": 0}) == pytest.approx(0.2)


def test_a_scorer_gives_each_video_of_a_batch_its_number() -> None:
    videos = torch.tensor([0.25, 0.75]).reshape(2, 1, 1, 1, 1).expand(2, 4, 3, 8, 8)
    scorer = VBenchScorer({"imaging_quality": lambda v: v.mean().item(), "dynamic_degree": lambda v: 1.0})
    assert scorer(videos) == pytest.approx([(0.25 + 0.5) / 1.5, (0.75 + 0.5) / 1.5])
    assert VBenchScorer(scorer.metrics, {"dynamic_degree": 0})(videos) == pytest.approx([0.25, 0.75])


@pytest.mark.parametrize("weight", [{"aesthetic_quality": -1}, {"aesthetic_quality": 0}])
def test_weights_that_give_no_mean_are_refused(weight: dict[str, float]) -> None:
    with pytest.raises(UserError, match="at least above it"):
        total({"aesthetic_quality": 0.5}, weight)


def test_a_score_that_is_not_finite_is_refused() -> None:
    with pytest.raises(UserError, match="imaging_quality is nan"):
        score(torch.zeros(2, 3, 4, 4), {"imaging_quality": lambda video: float("nan")})


def test_an_unknown_metric_and_none_at_all_are_refused() -> None:
    with pytest.raises(UserError, match="no metric 'subject consistency'"):
        total({"subject consistency": 0.9})
    with pytest.raises(UserError, match="choose among subject_consistency"):
        load([], Files())


@pytest.mark.parametrize("metric", SCALES)
def test_no_weights_no_metric(metric: str, tmp_path: Path) -> None:
    lacking = missing([metric], Files())
    assert lacking and all("weights/" in wanted.command for wanted in lacking)
    with pytest.raises(UserError) as error:
        load([metric], Files())
    assert error.value.remedy == lacking[0].command
    gone = Files(**dict.fromkeys(quality.NEEDS[metric], tmp_path / "gone"))
    with pytest.raises(UserError, match=f"nothing at {tmp_path / 'gone'}"):
        load([metric], gone)


def test_missing_looks_at_the_named_metrics_only(tmp_path: Path) -> None:
    there = tmp_path / "raft.pth"
    there.touch()
    assert missing(["dynamic_degree"], Files(raft=there)) == []
    assert [wanted.what for wanted in missing(["aesthetic_quality"], Files(clip_l14=there))] == [
        "LAION's linear head for CLIP ViT-L/14"
    ]
