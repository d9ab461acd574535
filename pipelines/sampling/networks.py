"""The networks of a model file, as a command wants them: torch looked for first, memory's end told in one line.

The door from the command line to `training.models.build`; torch is not imported before it is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from curation.errors import UserError
from pipelines.config.modelfile import ModelFile, QualitySection
from pipelines.sampling.wish import OfRun

if TYPE_CHECKING:
    from training.models.base import LatentSpec
    from training.models.flux_image import ImageModel
    from training.quality.score import VBenchScorer
    from training.sampling.sampler import Sampler
    from training.sampling.trained import Chosen


def sampler(model: ModelFile, chosen: Chosen | None, note: Callable[[str], None]) -> Sampler:
    """All that sampling needs, with a run's transformer where one was chosen. `note` hears what a person should know of
    it, as of weights that are random. UserError: a package, a file, a preset or a device that is not there.
    """
    need_torch()
    from training.models import build
    from training.sampling.sampler import Sampler
    from training.sampling.trained import weights

    own, told = (None, None) if chosen is None else weights(chosen, model.spec.denoiser)
    made = build.networks(model.spec, own)
    if told is not None:
        note(told)
    for name, section in (("transformer", model.denoiser), ("autoencoder", model.autoencoder)):
        if section.path is None and not (own is not None and name == "transformer"):
            note(f"the {name}'s weights are random (seed {section.seed}): no picture is meant")
    return Sampler(made.denoiser, made.autoencoder, made.text, made.device, made.dtype, model.run.threads)


def chosen(model: ModelFile, run: OfRun | None) -> Chosen | None:
    """The checkpoint of a run that is to be sampled. UserError: there is none, or it is not the one of the line."""
    if run is None:
        return None
    need_torch()
    from training.sampling.trained import chosen as chosen_of

    found = chosen_of(run.folder, model.spec.denoiser, run.step, run.averages)
    if run.sha256 not in (None, found.sha256):
        told = f"the checkpoint of step {found.step} in {run.folder} is not the one that was sampled"
        raise UserError(told, "the run was begun anew there; sample it with --run")
    return found


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
