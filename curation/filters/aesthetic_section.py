"""`[filters.aesthetic]` of a recipe: where the weights of CLIP and of the head are, and what holds where they are not.

No package ships them and nothing is fetched: a recipe names them, or CLIP's lie in the hub's cache on this machine.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

from pydantic import Field

from curation.errors import UserError
from curation.filters.aesthetic import (
    INSTALL,
    Aesthetic,
    Dtype,
    aesthetic_fingerprint,
    clip_from_hub,
    missing_weights,
)
from curation.filters.section import FilterSection, FilterSpec, Need

CLIP, HEAD = "CLIP ViT-L/14", "LAION head"


class AestheticSection(FilterSection):
    """CLIP with the LAION head (docs/filters.md)."""

    missing: Literal["fail", "skip"] = "fail"
    """Where the weights are absent: the run stops, or the score stays null and says so."""
    clip_weights: str | None = None
    """Path of CLIP's weights."""
    head_weights: str | None = None
    """Path of the aesthetic head's weights."""
    device: str = Field(default="cpu", pattern=r"^(cpu|cuda(:\d+)?)$")
    """`cpu`, `cuda` or `cuda:N`."""
    dtype: Dtype = "fp32"
    """What CLIP computes in."""

    @property
    def weights(self) -> tuple[Path | None, Path | None]:
        """Where CLIP's and the head's weights are: named in the recipe, or CLIP's in the hub's cache."""
        clip = Path(self.clip_weights).expanduser() if self.clip_weights else _cached()
        head = Path(self.head_weights).expanduser() if self.head_weights else None
        return clip, head

    def spec(self) -> FilterSpec | None:
        """See `FilterSection.spec`."""
        clip, head = self.weights
        missing = missing_weights(clip, head)
        if missing and self.missing == "fail":
            what, command = missing[0]
            raise UserError(
                f"the recipe's aesthetic filter needs {what}, which is missing",
                f"get it with `{command}` and name it in the recipe (filters.aesthetic.clip_weights, head_weights), "
                'or set filters.aesthetic.missing = "skip"',
            )
        if missing:
            return None
        assert clip is not None and head is not None
        _check_packages()
        files = {"clip": str(clip.absolute()), "head": str(head.absolute())}
        settings = {**files, "dtype": self.dtype, "device": self.device}
        return FilterSpec(aesthetic_fingerprint(clip, head, self.dtype), settings, gpus=float(self._on_gpu))

    @staticmethod
    def make(clip: str, head: str, dtype: Dtype, device: str) -> Aesthetic:
        """See `FilterSection.make`."""
        return Aesthetic(Path(clip), Path(head), dtype=dtype, device=device)

    def needs(self) -> tuple[Need, ...]:
        """See `FilterSection.needs`: both weights."""
        clip, head = self.weights
        lacking = dict(missing_weights(clip, head))
        return _need(CLIP, clip, "clip_weights", lacking), _need(HEAD, head, "head_weights", lacking)

    def required(self) -> frozenset[str]:
        """See `FilterSection.required`. A run that does without the filter needs nothing."""
        lacking = missing_weights(*self.weights)
        if lacking and self.missing == "skip":
            return frozenset()
        gpu = {"GPU"} if self._on_gpu and not lacking else set()
        return frozenset({CLIP, HEAD, "torch", "open-clip-torch", *gpu})

    @property
    def _on_gpu(self) -> bool:
        return self.device.startswith("cuda")


def _need(name: str, path: Path | None, key: str, lacking: dict[str, str]) -> Need:
    # `missing_weights` names what is lacking in longer words.
    what = next((words for words in lacking if words.startswith(name.split()[0])), None)
    if what is None:
        return Need(name, True, str(path))
    absent = f"{path} is not there" if path else f"no file; name one in the recipe: filters.aesthetic.{key}"
    return Need(name, False, absent, lacking[what])


def _cached() -> Path | None:
    try:
        return clip_from_hub()
    except UserError:
        return None  # without huggingface_hub there is no cache either; `missing_weights` says what to do


def _check_packages() -> None:
    # A worker would find out too, after everything was measured.
    for package in ("torch", "open_clip"):
        if importlib.util.find_spec(package) is None:
            raise UserError(f"the aesthetic filter needs the package {package}", INSTALL)
