"""The model file: a TOML file that says which networks make a video and where their weights are. `sample` reads it.

`tiny` ships and runs anywhere: random weights behind a real text encoder, to see the machinery work. `opensora2` and
`opensora2-dcae` are the report's; their paths are placeholders to copy and fill. A path may be `hub:OWNER/NAME`, which
is how a download is allowed; nothing else is fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from pipelines.config import tomlfile
from pipelines.config.tomlfile import Section

if TYPE_CHECKING:
    from training.models.build import ModelSpec

SHIPPED = Path(__file__).parent / "models"


class DenoiserSection(Section):
    """The transformer: a preset of `training.models.mmdit.config`, and its weights in any public layout.

    Without `path` the weights are drawn from `seed`, and every result says so.
    """

    preset: str
    path: str | None = None
    seed: int = 0
    compile: bool = False


class AutoencoderSection(Section):
    """`hunyuan`, or `dcae` with a preset. Without `path`: random weights from `seed`. `latent_std`: what a DC-AE's
    latents are divided by, 0.493 where it is left out; of one that you have trained, `validation/latent_std` of the
    run's log."""

    kind: Literal["hunyuan", "dcae"]
    preset: str = "f32t4c128"
    path: str | None = None
    seed: int = 0
    latent_std: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _scaled(self) -> Self:
        if self.latent_std is not None and self.kind != "dcae":
            raise ValueError('latent_std is of kind = "dcae"')
        return self


class TextSection(Section):
    """`t5clip` from two folders, or `embedded`, the encoder that ships in a package."""

    kind: Literal["t5clip", "embedded"] = "embedded"
    t5: str | None = None
    clip: str | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if self.kind == "t5clip" and not (self.t5 and self.clip):
            raise ValueError('kind = "t5clip" needs t5 = "FOLDER" and clip = "FOLDER"')
        return self


class ImageSection(Section):
    """Flux, which draws the first frame for `--via-image`: a diffusers folder."""

    path: str | None = None


_Path = Annotated[Path, Field(strict=False)]
"""A path in a file is a text."""


class QualitySection(Section):
    """Weights of VBench's metrics, for the search over candidates; `weights` changes how much each counts."""

    dino: _Path | None = None
    clip_b32: _Path | None = None
    amt: _Path | None = None
    raft: _Path | None = None
    clip_l14: _Path | None = None
    laion_head: _Path | None = None
    musiq: _Path | None = None
    weights: dict[str, float] = Field(default_factory=dict)


class PerceptionSection(Section):
    """Networks that judge pictures where the autoencoder is trained. `vgg16`, `lpips`: torchvision's VGG16 and LPIPS's
    linear layers for it; `dinov2`: the folder of the teacher. Commands that get them: docs/autoencoder.md."""

    vgg16: _Path | None = None
    lpips: _Path | None = None
    dinov2: _Path | None = None


class RunSection(Section):
    """Where and how: `auto` is the GPU where there is one. `kernels`: compute with the Triton kernels, on a GPU.

    `threads`: of a CPU. One gives the same bits each time; more are faster, and other bits.
    """

    device: str = "auto"
    threads: int = Field(default=1, ge=1)
    kernels: bool = False
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"


class ModelFile(Section):
    """A whole model file."""

    name: str
    denoiser: DenoiserSection
    autoencoder: AutoencoderSection
    text: TextSection = TextSection()
    image: ImageSection = ImageSection()
    quality: QualitySection = QualitySection()
    perception: PerceptionSection = PerceptionSection()
    run: RunSection = RunSection()

    @property
    def spec(self) -> ModelSpec:
        """What `training.models.build` makes networks of. Needs torch."""
        from training.models import build

        return build.ModelSpec(
            name=self.name,
            denoiser=build.DenoiserSpec(**self.denoiser.model_dump()),
            autoencoder=build.AutoencoderSpec(**self.autoencoder.model_dump()),
            text=build.TextSpec(**self.text.model_dump()),
            image=self.image.path,
            **self.run.model_dump(),
        )


def load(name_or_path: str) -> ModelFile:
    """A model file by path, or by the name of one that ships."""
    return tomlfile.load(name_or_path, ModelFile, SHIPPED, "model")
