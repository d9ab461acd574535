"""Scales against the published ones, and that a step which computes less comes to the same."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

import torch

from curation.errors import UserError
from tests.support import golden
from training.sampling.guidance import Guidance, Pass, Scales, combine
from training.tokens import Grid

GRID = Grid(3, 2, 2)


def test_the_published_scales() -> None:
    for row in golden.table("guidance_scales"):
        guidance = Guidance(
            text=row["text_scale"],
            image=row["image_scale"],
            oscillate_text=row["text_oscillation"],
            oscillate_image=row["image_oscillation"],
            dynamic_image=row["dynamic_image_scale"],
        )
        steps = row["num_steps"]
        for i in range(steps):
            scales = guidance.at(i, steps, row["latent_frames"])
            assert scales.text == pytest.approx(row["text"][i], abs=1e-6)
            want = torch.tensor(row["image"][i])
            golden.close(torch.as_tensor(scales.image).expand(want.shape), want, atol=1e-6, rtol=0)


def _velocities() -> dict[Pass, torch.Tensor]:
    return {which: torch.randn(2, GRID.tokens, 5) for which in Pass}


@pytest.mark.parametrize("text", [1.0, 7.5])
@pytest.mark.parametrize("image", [1.0, 3.0, torch.tensor([1.0, 2.0, 3.0])])
@pytest.mark.parametrize("conditioned", [True, False])
def test_a_step_without_the_passes_that_cancel_is_the_whole_formula(
    text: float, image: float | torch.Tensor, conditioned: bool
) -> None:
    v = _velocities()
    if not conditioned:
        v[Pass.IMAGES] = v[Pass.NOTHING]
    per_token = image if isinstance(image, int | float) else image.repeat_interleave(4)[:, None]
    whole = combine(v[Pass.NOTHING], v[Pass.IMAGES], v[Pass.ALL], text, per_token)
    scales = Scales(text, image)
    needed = scales.passes(conditioned)
    golden.close(scales.combine({which: v[which] for which in needed}, GRID), whole, 1e-5, 1e-5)


@pytest.mark.parametrize(
    ("scales", "conditioned", "passes"),
    [
        (Scales(7.5, 3.0), True, 3),
        (Scales(7.5, 3.0), False, 2),
        (Scales(7.5, 1.0), True, 2),
        (Scales(1.0, 3.0), True, 3),
        (Scales(1.0, 3.0), False, 1),
        (Scales(1.0, 1.0), True, 1),
        (Scales(7.5, torch.ones(3)), True, 3),
    ],
)
def test_how_many_passes_a_step_needs(scales: Scales, conditioned: bool, passes: int) -> None:
    needed = scales.passes(conditioned)
    assert len(needed) == passes and needed[-1] is Pass.ALL
    assert conditioned or Pass.IMAGES not in needed


def test_what_oscillation_saves() -> None:
    def passes(guidance: Guidance, conditioned: bool) -> int:
        return sum(len(guidance.at(i, 50, 33).passes(conditioned)) for i in range(50))

    assert passes(Guidance(), True) == 30 * 3 + 20
    assert passes(Guidance(dynamic_image=True), True) == 30 * 3 + 20
    assert passes(Guidance(), False) == 30 * 2 + 20
    assert passes(Guidance(oscillate_text=False), True) == 30 * 3 + 20 * 2
    assert passes(Guidance(oscillate_text=False, oscillate_image=False), True) == 150


def test_the_dynamic_scale_spares_the_first_frame_and_an_image_has_none() -> None:
    guidance = Guidance(dynamic_image=True)
    v = _velocities()
    scales = guidance.at(0, 50, 3)
    assert isinstance(scales.image, torch.Tensor)
    combined = scales.combine(v, GRID)
    plain = Scales(7.5, 1.0).combine({k: v[k] for k in (Pass.IMAGES, Pass.ALL)}, GRID)
    golden.close(combined[:, :4], plain[:, :4], 1e-5, 1e-5)
    golden.close(combined[:, 8:], Scales(7.5, 3.0).combine(v, GRID)[:, 8:], 1e-5, 1e-5)
    assert guidance.at(0, 50, 1).image == 3.0


def test_combining_keeps_the_dtype_of_the_velocities() -> None:
    v = {which: x.to(torch.bfloat16) for which, x in _velocities().items()}
    assert Guidance(dynamic_image=True).at(0, 50, 3).combine(v, GRID).dtype == torch.bfloat16


@pytest.mark.parametrize("scales", [{"text": float("nan")}, {"image": float("inf")}, {"text": float("-inf")}])
def test_a_scale_is_a_number(scales: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="give a number"):
        Guidance(**scales)
