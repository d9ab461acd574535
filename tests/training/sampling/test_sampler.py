"""From a request to videos: seeds, sizes, references, search."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.errors import UserError
from tests.support.toy import ToyAutoencoder, ToyDenoiser, ToyTextEncoder
from training.condition import GIVEN, Kind, held_frames
from training.models.base import LatentSpec
from training.sampling import seeds as randoms
from training.sampling.denoise import Settings
from training.sampling.guidance import Guidance
from training.sampling.sampler import Request, Sampled, Sampler, cropped, fitted
from training.sampling.search import Search
from training.sampling.seeds import LARGEST

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


@st.composite
def batches(draw: st.DrawFn) -> list[tuple[str, int]]:
    """Prompts and seeds of a batch; a seed may come twice."""
    seeds = st.sampled_from((0, 1, 2, 7, LARGEST - 1, LARGEST))
    return draw(st.lists(st.tuples(st.sampled_from(("a cat", "a dog", "the sea")), seeds), min_size=1, max_size=4))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kind", [Kind.T2V, Kind.I2V_HEAD, Kind.I2V_LOOP, Kind.V2V_TAIL])
@settings(max_examples=12, deadline=None)
@given(batch=batches())
def test_what_a_sample_becomes_depends_on_its_own_seed_and_prompt_alone(
    kind: Kind, causal: bool, batch: list[tuple[str, int]]
) -> None:
    """Noise, the latent drawn for a reference and the noise of candidates, of any batch in any order."""
    matrix = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    drawing = Sampler(ToyDenoiser(), ToyAutoencoder(matrix, causal, patch=2, drawn=0.5), ToyTextEncoder())
    given_frames = 0 if kind is Kind.T2V else 40 if GIVEN[kind].video else 1
    references = (picture(1, given_frames),) if given_frames else ()
    search = Search(steps=(1, 2), candidates=3, noise=1.0)

    def made(pairs: list[tuple[str, int]]) -> Sampled:
        prompts, seeds = zip(*pairs, strict=True)
        frames = 44 + causal
        asked = Request(prompts, frames, 8, 12, kind=kind, references=references, seeds=seeds)
        return drawing(asked, FEW, search, Nearest(0.3))

    together = made(batch)
    for place, pair in enumerate(batch):
        torch.testing.assert_close(together.latent_BCTHW[place], made([pair]).latent_BCTHW[0], atol=1e-4, rtol=1e-4)


def test_numbers_for_one_purpose_are_not_those_for_another() -> None:
    drawn = {purpose: torch.randn(64, generator=randoms.generator(5, purpose)) for purpose in randoms.Purpose}
    firsts = torch.stack(list(drawn.values()))
    near = (firsts @ firsts.T / 64 - torch.eye(len(firsts))).fill_diagonal_(0).abs().max()
    assert near < 0.5
    assert torch.equal(drawn[randoms.Purpose.NOISE], torch.randn(64, generator=torch.Generator().manual_seed(5)))


@pytest.mark.parametrize(
    ("kind", "frames"),
    [(Kind.I2V_HEAD, 9), (Kind.I2V_TAIL, 9), (Kind.I2V_LOOP, 6), (Kind.T2V, 12)],
)
def test_frames_that_repeat_a_given_image_are_cut_off_where_it_fills_a_latent_frame(kind: Kind, frames: int) -> None:
    matrix = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    sampler = Sampler(ToyDenoiser(), ToyAutoencoder(matrix, causal=False, patch=2), ToyTextEncoder())
    references = () if kind is Kind.T2V else (picture(1),)
    made = sampler(request(frames=12, kind=kind, references=references), FEW)
    assert made.videos_BTHW3.shape[1] == frames
    whole = sampler.autoencoder.decode(made.latent_BCTHW)
    shown = ((whole + 1) / 2).clamp(0, 1).mul(255).round().to(torch.uint8).permute(0, 2, 3, 4, 1)
    first = 3 if kind in (Kind.I2V_HEAD, Kind.I2V_LOOP) else 0
    assert torch.equal(made.videos_BTHW3, shown[:, first : first + frames])


def test_nothing_is_cut_off_of_a_causal_or_a_given_video(sampler: Sampler) -> None:
    assert sampler(request(kind=Kind.I2V_LOOP, references=(picture(1),)), FEW).videos_BTHW3.shape[1] == 9
    spec = LatentSpec(128, 4, 32, False, 1)
    assert held_frames(Kind.V2V_HEAD, 32, spec) == (0, 0)
    assert held_frames(Kind.I2V_LOOP, 32, spec) == (3, 3)


class Mixing(ToyDenoiser):
    """What is given changes the velocity of every token, as attention lets it."""

    def __call__(self, x_BLC: torch.Tensor, *rest: Any, **named: Any) -> torch.Tensor:
        cond_BLK = rest[3] if len(rest) > 3 else None
        v = super().__call__(x_BLC, *rest, **named)
        return v if cond_BLK is None else v + torch.sin(x_BLC * cond_BLK.mean((1, 2), keepdim=True))


@pytest.mark.parametrize(
    ("kind", "dynamic"), [(Kind.T2V, False), (Kind.I2V_TAIL, True), (Kind.V2V_HEAD, False)], ids=str
)
def test_the_image_scale_is_dynamic_for_images_alone(sampler: Sampler, kind: Kind, dynamic: bool) -> None:
    frames = 37
    references = {Kind.T2V: (), Kind.I2V_TAIL: (picture(1),), Kind.V2V_HEAD: (picture(1, 33),)}[kind]
    asked = request(frames=frames, kind=kind, references=references)
    as_is, on, off = (
        replace(sampler, denoiser=Mixing())(asked, Settings(4, Guidance(3.0, 2.0, **choice))).latent_BCTHW
        for choice in ({}, {"dynamic_image": True}, {"dynamic_image": False})
    )
    assert torch.equal(as_is, on)
    assert torch.equal(on, off) is not dynamic


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
        ({"seeds": (1, 2**63)}, "a seed of 9223372036854775808"),
        ({"seeds": (-1, 2)}, "a seed of -1"),
        ({"height": 0}, "a picture of 0x12"),
        ({"motion": 16}, "a motion score of 16"),
        ({"references": (picture(1),)}, "t2v uses none of 1 reference"),
        ({"kind": Kind.I2V_HEAD, "references": (picture(1), picture(2))}, "i2v_head uses 1 of 2 references"),
        ({"kind": Kind.I2V_LOOP, "references": (picture(1),) * 3}, "i2v_loop uses 2 of 3 references"),
        ({"frames": 1, "kind": Kind.I2V_HEAD, "references": (picture(1),)}, "a still image cannot start"),
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
