"""From a request to videos: seeds, sizes, references, search."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch

from curation.errors import UserError
from tests.support.toy import ToyAutoencoder, ToyDenoiser, ToyTextEncoder
from training.condition import Kind
from training.guidance import Guidance
from training.models.base import LatentSpec
from training.sample import Request, Sampled, Sampler, cropped, fitted
from training.search import Search
from training.walk import Settings

FEW = Settings(4, Guidance(text=3.0, image=2.0))


@pytest.fixture
def sampler() -> Sampler:
    matrix = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    return Sampler(ToyDenoiser(), ToyAutoencoder(matrix, causal=True, patch=2), ToyTextEncoder())


def request(**changes: object) -> Request:
    fields = {"prompts": ("a cat", "a dog"), "frames": 9, "height": 8, "width": 12, "seeds": (3, 5)}
    return Request(**{**fields, **changes})  # type: ignore[arg-type]


def picture(seed: int, frames: int = 1, height: int = 16, width: int = 24) -> torch.Tensor:
    return torch.rand(3, frames, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_seed_gives_one_video_alone_or_in_a_batch(sampler: Sampler) -> None:
    both = sampler(request(), FEW)
    alone = sampler(request(prompts=("a dog",), seeds=(5,)), FEW)
    assert both.videos_BTHW3.shape == (2, 9, 8, 12, 3)
    assert both.videos_BTHW3.dtype == torch.uint8
    torch.testing.assert_close(both.latent_BCTHW[1], alone.latent_BCTHW[0], atol=1e-6, rtol=1e-6)
    assert not torch.equal(both.latent_BCTHW[0], both.latent_BCTHW[1])
    assert torch.equal(sampler(request(), FEW).videos_BTHW3, both.videos_BTHW3)
    assert not torch.equal(sampler(request(seeds=(4, 5)), FEW).latent_BCTHW[0], both.latent_BCTHW[0])


def test_the_prompt_is_worded_as_in_training(sampler: Sampler) -> None:
    assert sampler(request(fps=12, motion=7), FEW).prompts == (
        "a cat. 12 FPS. 7 motion score.",
        "a dog. 12 FPS. 7 motion score.",
    )
    assert sampler(request(frames=1), FEW).prompts == ("a cat.", "a dog.")


def test_given_images_are_in_the_result(sampler: Sampler) -> None:
    made = sampler(request(kind=Kind.I2V_LOOP, references=(picture(1), picture(2))), FEW)
    want = [sampler.autoencoder.encode(fitted(picture(seed), 8, 12)[None]) for seed in (1, 2)]
    for sample in made.latent_BCTHW:
        torch.testing.assert_close(sample[None, :, :1], want[0])
        torch.testing.assert_close(sample[None, :, -1:], want[1])


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"frames": 10}, "10 frames do not fit"),
        ({"height": 10}, "a picture of 10x12 does not fit"),
        ({"prompts": ()}, "no prompt"),
        ({"seeds": (1,)}, "1 seeds for 2 prompts"),
        ({"motion": 16}, "a motion score of 16"),
        ({"kind": Kind.I2V_HEAD}, "needs something to start from"),
        ({"kind": Kind.I2V_HEAD, "references": (picture(1, width=16),)}, "the reference is 16x16, the video 12x8"),
        ({"kind": Kind.V2V_HEAD, "references": (picture(1, 9),)}, "needs 33 frames, not 9"),
        ({"kind": Kind.V2V_HEAD, "references": (picture(1, 40),)}, "make the video longer"),
    ],
)
def test_what_does_not_fit_is_one_line(sampler: Sampler, changes: dict[str, object], cause: str) -> None:
    with pytest.raises(UserError) as error:
        sampler(request(**changes), FEW)
    assert cause in str(error.value)
    assert "\n" not in str(error.value)


def test_cropping_keeps_the_middle() -> None:
    image = torch.arange(6.0).repeat(4, 1).expand(3, 1, 4, 6)
    assert cropped(image, 8, 8)[0, 0, 0].tolist() == [1, 2, 3, 4]
    assert cropped(image, 2, 6).shape[-2:] == (2, 6)
    assert cropped(image, 4, 6) is not None and cropped(image, 4, 6).shape == image.shape


class Nearest:
    """Scores a video by how near its mean brightness is to a wish, and keeps what it saw."""

    def __init__(self, wish: float) -> None:
        self.wish = wish

    def __call__(self, video_BT3HW: torch.Tensor) -> list[float]:
        assert 0 <= video_BT3HW.min() <= video_BT3HW.max() <= 1
        return [-abs(float(video.mean()) - self.wish) for video in video_BT3HW]


def searched(sampler: Sampler, wish: float, candidates: int) -> Sampled:
    search = Search(steps=(0, 1, 2, 3), candidates=candidates, noise=1.0)
    return sampler(request(), FEW, search, Nearest(wish))


@pytest.mark.parametrize("wish", [0.0, 1.0])
def test_the_best_candidate_wins(sampler: Sampler, wish: float) -> None:
    made = searched(sampler, wish, 6)
    assert made.found is not None
    for step, scores in made.found.scores.items():
        for sample, number in enumerate(made.found.chosen[step]):
            assert scores[number][sample] == max(row[sample] for row in scores)
    assert len({number for chosen in made.found.chosen.values() for number in chosen}) > 1, "not always the last one"
    few = searched(sampler, wish, 1)
    assert sum(Nearest(wish)(_video(made))) > sum(Nearest(wish)(_video(few)))


class Straight:
    """A network that has learnt one video: its velocity leads there from anywhere in one step."""

    def __init__(self, data_BLC: torch.Tensor) -> None:
        self.data_BLC = data_BLC

    def __call__(self, x_BLC: torch.Tensor, t_B: torch.Tensor, *_: object) -> torch.Tensor:
        return (x_BLC - self.data_BLC) / t_B[:, None, None]


def test_a_candidate_is_judged_by_where_it_leads(sampler: Sampler) -> None:
    data = torch.randn(1, 18, 16, generator=torch.Generator().manual_seed(1))
    seen: list[torch.Tensor] = []

    def score(video_BT3HW: torch.Tensor) -> list[float]:
        seen.append(video_BT3HW)
        return [0.0] * len(video_BT3HW)

    made = replace(sampler, denoiser=Straight(data))(request(), FEW, Search(steps=(0, 1), candidates=2), score)
    assert len(seen) == 4
    for video in seen:
        torch.testing.assert_close(video, _video(made), atol=1 / 255, rtol=0)


def test_candidates_share_the_noise_of_all_branches_and_the_state_they_came_from(sampler: Sampler) -> None:
    """Without noise every candidate is the plain step, guided like any other."""
    still = sampler(request(), FEW, Search(steps=(0, 1, 2, 3), candidates=2, noise=0.0), Nearest(0.5))
    torch.testing.assert_close(still.latent_BCTHW, sampler(request(), FEW).latent_BCTHW)


def test_a_search_outside_the_steps_is_refused(sampler: Sampler) -> None:
    with pytest.raises(UserError, match="step 4 of 4"):
        sampler(request(), FEW, Search(steps=(4,)), Nearest(0))


def _video(made: Sampled) -> torch.Tensor:
    return made.videos_BTHW3.permute(0, 1, 4, 2, 3) / 255


@pytest.mark.parametrize(
    ("spec", "frames", "latent"),
    [
        (LatentSpec(16, 4, 8, True, 2), 129, 33),
        (LatentSpec(16, 4, 8, True, 2), 1, 1),
        (LatentSpec(128, 4, 32, False, 1), 128, 32),
        (LatentSpec(128, 4, 32, False, 1), 1, 1),
    ],
)
def test_latent_frames(spec: LatentSpec, frames: int, latent: int) -> None:
    assert spec.frames(frames) == latent


def test_frames_off_the_grid_name_the_nearest() -> None:
    with pytest.raises(UserError, match="4k \\+ 1: 129 or 133"):
        LatentSpec(16, 4, 8, True, 2).frames(130)
    with pytest.raises(UserError, match="multiple of 4: 128 or 132"):
        LatentSpec(128, 4, 32, False, 1).frames(129)
