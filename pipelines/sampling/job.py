"""A wish checked: it becomes a `training.sampling.sampler.Request` before any network is loaded.

`command` makes a job's videos. References are read here (`pictures`), for they decide what can be asked.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curation.errors import UserError
from pipelines.config import modelfile
from pipelines.sampling import networks, pictures
from pipelines.sampling.wish import Wish

if TYPE_CHECKING:
    from torch import Tensor

    from training.condition import Kind
    from training.models.base import LatentSpec
    from training.sampling.denoise import Settings
    from training.sampling.sampler import Request
    from training.sampling.search import Search
    from training.sampling.trained import Chosen


@dataclass(frozen=True, slots=True)
class Job:
    """A wish, checked: the request without seeds, and how to walk. `chosen`: the checkpoint of a run that the
    transformer is taken from, None for the model's own.
    """

    wish: Wish
    model: modelfile.ModelFile
    chosen: Chosen | None
    request: Request
    settings: Settings
    search: Search | None

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.wish.seed + number for number in range(len(self.request.prompts)))


def prepared(wish: Wish, note: Callable[[str], None]) -> Job:
    """A wish made a job. `note` hears at once what a person should know of a reference. UserError: what is wrong."""
    from training.sampling import seeds
    from training.sampling.sampler import check_references

    model = modelfile.load(wish.model)
    spec, settings, search = networks.latent_spec(model), _settings(wish), _search(wish)
    if search is not None:
        search.check(settings.steps)
    job = Job(wish, model, networks.chosen(model, wish.run), _request(wish, spec, note), settings, search)
    seeds.checked(job.seeds)
    if wish.via_image:
        if len(wish.prompts) > 1:
            raise UserError("--via-image takes one prompt at a time", "run the command once a prompt")
        if spec.frames(wish.frames) == 1:
            raise UserError("--via-image starts a video", f"ask for {spec.video_frames(2)} frames or more")
    else:
        check_references(job.request, spec)
    return job


def _request(wish: Wish, spec: LatentSpec, note: Callable[[str], None]) -> Request:
    from training.condition import wanted_frames
    from training.data.aspect import sizes
    from training.prompt import chosen_motion
    from training.sampling.sampler import Request

    side = spec.space * spec.patch
    if wish.size:
        height, width = _size(wish.size)
    else:
        table = sizes(wish.resolution, side, training=False)
        if wish.aspect not in table:
            raise UserError(f"no aspect {wish.aspect!r}", f"choose one of {', '.join(table)}, or give --size")
        height, width = table[wish.aspect]
    spec.size(wish.frames, height, width)
    chosen_motion(wish.motion)
    kind = _kind(wish)
    references: list[Tensor] = []
    if wish.via_image:
        if wish.references:
            raise UserError("--via-image draws the first frame, and one is given", "leave one of the two out")
    else:
        wanted = wanted_frames(kind, len(wish.references), spec)
        for path, frames in zip(wish.references, wanted, strict=True):
            read = pictures.read_reference(path, pictures.Wanted(*frames, height, width, wish.fit))
            if read.note is not None:
                note(read.note)
            references.append(read.pixels)
    return Request(
        *(wish.prompts, wish.frames, height, width, wish.fps, wish.motion, wish.negative, kind, tuple(references))
    )


def _kind(wish: Wish) -> Kind:
    """What the references mean: one image starts, two bound, a video goes on; `--kind` says otherwise."""
    from training.condition import Kind

    if wish.kind is not None:
        if wish.kind not in set(Kind):
            raise UserError(f"no kind {wish.kind!r}", f"choose one of {', '.join(Kind)}")
        return Kind(wish.kind)
    if not wish.references:
        return Kind.T2V
    if not all(pictures.is_image(path) for path in wish.references):
        return Kind.V2V_HEAD
    if len(wish.references) > 2:
        raise UserError(f"{len(wish.references)} images", "give one to start from, or two to start from and end in")
    return Kind.I2V_HEAD if len(wish.references) == 1 else Kind.I2V_LOOP


def _settings(wish: Wish) -> Settings:
    from training.sampling.denoise import Settings
    from training.sampling.guidance import Guidance

    if wish.steps < 1:
        raise UserError(f"{wish.steps} steps", "take at least one; 50 is usual")
    guidance = Guidance(
        wish.guidance, wish.image_guidance, wish.text_oscillation, wish.image_oscillation, wish.dynamic_image
    )
    return Settings(wish.steps, guidance)


def _search(wish: Wish) -> Search | None:
    from training.sampling.search import Search

    if wish.search_steps is None:
        return None
    try:
        steps = tuple(int(part) for part in wish.search_steps.split(","))
    except ValueError:
        raise UserError(f"search steps {wish.search_steps!r}", "write them as 1,2,4,7") from None
    return Search(steps, wish.candidates)


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not found:
        raise UserError(f"size {text!r}", "write WIDTHxHEIGHT, as in 336x192")
    return int(found[2]), int(found[1])
