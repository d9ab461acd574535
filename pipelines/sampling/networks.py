"""The networks of a model file, as a command wants them: torch looked for first, memory's end told in one line.

The door from the command line to `training.models.build`; torch is not imported before it is opened.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from curation.errors import UserError
from pipelines.config.modelfile import ModelFile, QualitySection

if TYPE_CHECKING:
    from training.models.base import LatentSpec
    from training.models.flux_image import ImageModel
    from training.quality.score import VBenchScorer
    from training.sampling.sampler import Sampler


def sampler(model: ModelFile) -> Sampler:
    """All that sampling needs. UserError: a package, a file, a preset or a device that is not there."""
    need_torch()
    from training.models import build
    from training.sampling.sampler import Sampler

    made = build.networks(model.spec)
    return Sampler(made.denoiser, made.autoencoder, made.text, made.device, made.dtype, model.run.threads)


def notes(model: ModelFile) -> tuple[str, ...]:
    """What a person should know of the model's networks: those whose weights are random."""
    sections = (("transformer", model.denoiser), ("autoencoder", model.autoencoder))
    return tuple(
        f"the {name}'s weights are random (seed {section.seed}): no picture is meant"
        for name, section in sections
        if section.path is None
    )


def latent_spec(model: ModelFile) -> LatentSpec:
    """The shape of the model's latents, before any network is loaded."""
    need_torch()
    from training.models import build

    return build.latent_spec(model.spec.autoencoder)


def image_model(model: ModelFile) -> ImageModel:
    """The model that draws a first frame."""
    need_torch()
    from training.models import build

    return build.image_model(model.spec)


def scorer(section: QualitySection, metrics: Sequence[str], device: str, fps: float) -> VBenchScorer:
    """VBench's metrics with weights from the model file."""
    need_torch()
    from training.quality import score

    paths = section.model_dump(exclude={"weights"})
    return score.VBenchScorer(score.load(list(metrics), score.Files(**paths), device, fps), section.weights)


@contextmanager
def room_for(what: str) -> Iterator[None]:
    """A block that may need more memory than there is: `UserError` then, instead of torch's page of advice."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        import torch

        known = ("DefaultCPUAllocator", "calculation overflowed")
        if not isinstance(error, torch.OutOfMemoryError) and not any(words in str(error) for words in known):
            raise
        remedy = 'ask for fewer frames or a smaller size, or set run.dtype = "bfloat16" in the model file'
        raise UserError(f"too little memory for {what}", remedy) from error


def need_torch() -> None:
    """`UserError` where torch is not installed: before a module is imported that needs it."""
    try:
        import torch  # noqa: F401 - what is asked is whether it is there
    except ImportError:
        raise UserError("torch is not installed", "pip install -e '.[train]'") from None
