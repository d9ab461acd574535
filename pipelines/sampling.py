"""`ziggurat sample`: prompts and images to MP4 files, a contact sheet and one line a video that makes it again.

Arguments become a `training.sample.Request`; files are read and written here, the networks come from `building`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from curation.errors import UserError
from pipelines import building, modelfile, pictures

if TYPE_CHECKING:
    from torch import Tensor

    from training.models.base import LatentSpec
    from training.sample import Request, Sampled
    from training.search import Search
    from training.walk import Settings

LINES = "samples.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The command's arguments; None where the user said nothing."""

    prompts: tuple[str, ...]
    to: Path
    model: str
    resolution: str
    aspect: str
    size: str | None
    frames: int
    fps: int
    motion: int
    negative: str
    kind: str | None
    references: tuple[Path, ...]
    fit: Literal["error", "crop"]
    via_image: bool
    steps: int
    guidance: float
    image_guidance: float
    text_oscillation: bool
    image_oscillation: bool
    dynamic_image: bool
    seed: int
    search_steps: str | None
    candidates: int
    metrics: tuple[str, ...]
    as_json: bool


def run(wish: Wish) -> None:
    """The command. UserError for whatever the user can mend, before the networks are loaded where it can be told."""
    model = modelfile.load(wish.model)
    references = tuple(pictures.read_reference(path) for path in wish.references)
    with building.room_for(f"model {model.name}"):
        sampler = building.sampler(model)
    request, settings, search = _request(wish, references, sampler.autoencoder.spec), _settings(wish), _search(wish)
    if wish.via_image:
        request = _drawn_first(wish, model, request, settings)
    score = None
    if search is not None:
        search.check(settings.steps)
        score = building.scorer(model.quality, wish.metrics, str(sampler.device), wish.fps)
    wish.to.mkdir(parents=True, exist_ok=True)
    made: list[tuple[str, np.ndarray]] = []
    for number, prompt in enumerate(request.prompts):
        seed = wish.seed + number
        one = replace(request, prompts=(prompt,), seeds=(seed,))
        with building.room_for(f"{request.frames} frames of {request.width}x{request.height}"):
            sampled = sampler(one, settings, search, score)
        frames = sampled.videos_BTHW3[0].numpy()
        path = wish.to / f"{number:03d}-{_slug(prompt)}-{seed}{'.png' if len(frames) == 1 else '.mp4'}"
        _write(path, frames, wish.fps)
        _record(wish, path, one, settings, sampled)
        made.append((f"{prompt}  seed {seed}", frames))
    sheet = wish.to / "sheet.png"
    sheet.write_bytes(pictures.contact_sheet(made))
    if not wish.as_json:
        print(f"{len(made)} in {wish.to}, all on {sheet}")


def _request(wish: Wish, references: tuple[Tensor, ...], spec: LatentSpec) -> Request:
    from training.aspect import sizes
    from training.condition import Kind
    from training.sample import Request, cropped

    side = spec.space * spec.patch
    if wish.size:
        height, width = _size(wish.size)
    else:
        table = sizes(wish.resolution, side, training=False)
        if wish.aspect not in table:
            raise UserError(f"no aspect {wish.aspect!r}", f"choose one of {', '.join(table)}, or give --size")
        height, width = table[wish.aspect]
    spec.size(wish.frames, height, width)
    if wish.fit == "crop":
        references = tuple(cropped(reference, height, width) for reference in references)
    kind = _kind(wish, references)
    return Request(
        wish.prompts, wish.frames, height, width, wish.fps, wish.motion, wish.negative, Kind(kind), references
    )


def _kind(wish: Wish, references: Sequence[Tensor]) -> str:
    """What the references mean: one image starts, two bound, a video goes on; `--kind` says otherwise."""
    from training.condition import Kind

    if wish.kind is not None:
        if wish.kind not in set(Kind):
            raise UserError(f"no kind {wish.kind!r}", f"choose one of {', '.join(Kind)}")
        return wish.kind
    if not references:
        return Kind.T2V
    if any(reference.shape[1] > 1 for reference in references):
        return Kind.V2V_HEAD
    if len(references) > 2:
        raise UserError(f"{len(references)} images", "give one to start from, or two to start from and end in")
    return Kind.I2V_HEAD if len(references) == 1 else Kind.I2V_LOOP


def _settings(wish: Wish) -> Settings:
    from training.guidance import Guidance
    from training.walk import Settings

    if wish.steps < 1:
        raise UserError(f"{wish.steps} steps", "take at least one; 50 is usual")
    guidance = Guidance(
        wish.guidance, wish.image_guidance, wish.text_oscillation, wish.image_oscillation, wish.dynamic_image
    )
    return Settings(wish.steps, guidance)


def _search(wish: Wish) -> Search | None:
    from training.search import Search

    if wish.search_steps is None:
        return None
    try:
        steps = tuple(int(part) for part in wish.search_steps.split(","))
    except ValueError:
        raise UserError(f"search steps {wish.search_steps!r}", "write them as 1,2,4,7") from None
    return Search(steps, wish.candidates)


def _drawn_first(wish: Wish, model: modelfile.ModelFile, request: Request, settings: Settings) -> Request:
    """Text to image to video: the first frame is drawn, kept as PNG, and the video starts from it."""
    import torch

    from training import flow
    from training.condition import Kind
    from training.tokens import Grid

    if wish.references:
        raise UserError("--via-image draws the first frame, and one is given", "leave one of the two out")
    prompt, *more = wish.prompts
    if more:
        raise UserError("--via-image takes one prompt at a time", "run the command once a prompt")
    drawer = building.image_model(model)
    height, width = _image_size(request)
    times = flow.times(settings.steps, Grid(1, height // 16, width // 16), settings.shift).tolist()
    image = drawer.draw(prompt, height, width, times, torch.Generator().manual_seed(wish.seed))
    wish.to.mkdir(parents=True, exist_ok=True)
    path = wish.to / f"first-{_slug(prompt)}-{wish.seed}.png"
    _write(path, image[None], wish.fps)
    reference = torch.from_numpy(image).permute(2, 0, 1)[:, None].float() / 127.5 - 1
    return replace(request, kind=Kind.I2V_HEAD, references=(reference,))


def _image_size(request: Request) -> tuple[int, int]:
    """The video's aspect at the pixels of 768px (spec section 5), in multiples of 16."""
    scale = max(1.0, 768 / (request.height * request.width) ** 0.5)
    return round(request.height * scale / 16) * 16, round(request.width * scale / 16) * 16


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if not found:
        raise UserError(f"size {text!r}", "write WIDTHxHEIGHT, as in 336x192")
    return int(found[2]), int(found[1])


def _write(path: Path, frames: np.ndarray, fps: int) -> None:
    if len(frames) > 1:
        pictures.write_mp4(path, frames, fps)
        return
    import cv2

    done, png = cv2.imencode(".png", np.ascontiguousarray(frames[0][..., ::-1]))
    assert done, "OpenCV writes PNG"
    path.write_bytes(png.tobytes())


def _record(wish: Wish, path: Path, request: Request, settings: Settings, sampled: Sampled) -> None:
    """Append what makes this video again, and print it where machines read."""
    line: dict[str, Any] = {
        "file": path.name,
        "prompt": sampled.prompts[0],
        "seed": sampled.seeds[0],
        "model": wish.model,
        "kind": str(request.kind),
        "references": [str(reference) for reference in wish.references],
        "frames": request.frames,
        "height": request.height,
        "width": request.width,
        "fps": request.fps,
        "negative": request.negative,
        "steps": settings.steps,
        "guidance": asdict(settings.guidance),
        "search": None if sampled.found is None else asdict(sampled.found),
    }
    text = json.dumps(line)
    with (wish.to / LINES).open("a") as file:
        file.write(text + "\n")
    print(text if wish.as_json else path, file=sys.stdout, flush=True)


def _slug(prompt: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40] or "prompt"
