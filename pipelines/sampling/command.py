"""`ziggurat sample`: prompts and images to MP4 files, a contact sheet and one line a video that makes it again.

Arguments become a `Wish`, and so does a line of `samples.jsonl`; a wish becomes a `training.sampling.sampler.Request`.
Files are read and written here, the networks come from `networks`. All that can be told before they are loaded is told
then.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from curation.errors import UserError
from pipelines.config import modelfile
from pipelines.sampling import networks, pictures, samples_file
from pipelines.sampling.folder import SampleFolder
from pipelines.sampling.samples_file import Line

if TYPE_CHECKING:
    from training.condition import Kind
    from training.models.base import LatentSpec
    from training.sampling.denoise import Settings
    from training.sampling.sampler import Request, Sampled, Sampler
    from training.sampling.search import Search


METRICS = ("aesthetic_quality", "imaging_quality")
"""VBench's metrics that judge candidates where none are named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """The command's arguments; None where the user said nothing."""

    prompts: tuple[str, ...]
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

    @classmethod
    def of_command(cls, given: Mapping[str, Any]) -> Wish:
        """What was typed, by the names of the command's parameters."""
        lists = {
            "prompts": tuple(given["prompts"] or ()),
            "references": tuple(map(Path, given["reference"] or ())),
            "metrics": tuple(given["metric"] or METRICS),
        }
        return cls(**lists, **{field.name: given[field.name] for field in fields(cls) if field.name not in lists})

    @classmethod
    def of_line(cls, line: Line) -> Wish:
        """What makes a recorded video again."""
        search = line.search
        return cls(
            prompts=(line.prompt,),
            model=line.model,
            resolution="256px",
            aspect="16:9",
            size=f"{line.width}x{line.height}",
            frames=line.frames,
            fps=line.fps,
            motion=line.motion,
            negative=line.negative,
            kind=None if line.via_image else line.kind,
            references=tuple(reference.path for reference in line.references),
            fit=line.fit,
            via_image=line.via_image,
            steps=line.steps,
            guidance=line.guidance.text,
            image_guidance=line.guidance.image,
            text_oscillation=line.guidance.oscillate_text,
            image_oscillation=line.guidance.oscillate_image,
            dynamic_image=line.guidance.dynamic_image,
            seed=line.seed,
            search_steps=None if search is None else ",".join(map(str, search.steps)),
            candidates=1 if search is None else search.candidates,
            metrics=() if search is None else search.metrics,
        )


def run(wish: Wish, to: str, as_json: bool) -> None:
    """The command. UserError for whatever the user can mend, before the networks are loaded where it can be told."""
    networks.need_torch()
    job = _prepared(wish)
    folder = SampleFolder(to)
    sampler = _loaded(job.model)
    making = _Making(folder, as_json)
    making.all_of(job, sampler)
    making.finish()


def again(source: str, to: str, as_json: bool) -> bool:
    """Make the videos of the lines of a `samples.jsonl` again; whether each file is the same to the byte.

    UserError: lines that cannot be read, or whose model or references have changed.
    """
    networks.need_torch()
    lines = samples_file.read(source)
    for line in lines:
        line.check_sources()
    folder = SampleFolder(to)
    making, sampler, loaded, same = _Making(folder, as_json), None, None, True
    for line in lines:
        job = _prepared(Wish.of_line(line))
        if sampler is None or job.model != loaded:
            sampler, loaded = _loaded(job.model), job.model
        (made,) = making.all_of(job, sampler)
        if made.sha256 != line.sha256:
            same = False
            print(f"note: {made.file} is not the file that {line.file} was{_why(line, made)}", file=sys.stderr)
    making.finish()
    return same


def _why(old: Line, new: Line) -> str:
    changed = [f"{name} was {was}" for name in ("torch", "device") if (was := getattr(old, name)) != getattr(new, name)]
    return f": {', '.join(changed)}" if changed else ", as another machine may give"


@dataclass(frozen=True, slots=True)
class _Job:
    """A wish, checked: the request without seeds, and how to walk."""

    wish: Wish
    model: modelfile.ModelFile
    request: Request
    settings: Settings
    search: Search | None

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.wish.seed + number for number in range(len(self.request.prompts)))


def _prepared(wish: Wish) -> _Job:
    from training.sampling import seeds
    from training.sampling.sampler import check_references

    model = modelfile.load(wish.model)
    spec, settings, search = networks.latent_spec(model), _settings(wish), _search(wish)
    if search is not None:
        search.check(settings.steps)
    job = _Job(wish, model, _request(wish, spec), settings, search)
    seeds.checked(job.seeds)
    if wish.via_image:
        if len(wish.prompts) > 1:
            raise UserError("--via-image takes one prompt at a time", "run the command once a prompt")
        if spec.frames(wish.frames) == 1:
            raise UserError("--via-image starts a video", f"ask for {spec.video_frames(2)} frames or more")
    else:
        check_references(job.request, spec)
    return job


def _loaded(model: modelfile.ModelFile) -> Sampler:
    with networks.room_for(f"model {model.name}"):
        return networks.sampler(model)


class _Making:
    """Videos on their way into a folder: each is written with its line, all are shown on one sheet."""

    def __init__(self, folder: SampleFolder, as_json: bool) -> None:
        self._folder, self._as_json = folder, as_json
        self._shown: list[tuple[str, np.ndarray]] = []

    def all_of(self, job: _Job, sampler: Sampler) -> list[Line]:
        """Every video of a job."""
        request = _drawn_first(job, self._folder) if job.wish.via_image else job.request
        score = None
        if job.search is not None:
            score = networks.scorer(job.model.quality, job.wish.metrics, str(sampler.device), request.fps)
        lines: list[Line] = []
        for prompt, seed in zip(request.prompts, job.seeds, strict=True):
            one = replace(request, prompts=(prompt,), seeds=(seed,))
            with networks.room_for(f"{request.frames} frames of {request.width}x{request.height}"):
                sampled = sampler(one, job.settings, job.search, score)
            lines.append(self._keep(job, one, sampled, str(sampler.device)))
        return lines

    def _keep(self, job: _Job, request: Request, sampled: Sampled, device: str) -> Line:
        frames = sampled.videos_BTHW3[0].numpy()
        prompt, seed = request.prompts[0], sampled.seeds[0]
        suffix = ".png" if len(frames) == 1 else ".mp4"
        name, content = f"{len(self._shown):03d}-{_slug(prompt)}-{seed}{suffix}", _encoded(frames, request.fps)
        place = self._folder.keep(name, content)
        line = _line(job, name, content, request, sampled, device)
        text = line.model_dump_json()
        self._folder.list(text)
        print(text if self._as_json else place, flush=True)
        self._shown.append((f"{prompt}  seed {seed}", pictures.spread(frames)))
        return line

    def finish(self) -> None:
        sheet = self._folder.keep("sheet.png", pictures.contact_sheet(self._shown))
        if not self._as_json:
            print(f"{len(self._shown)} in {self._folder}, all on {sheet}")


def _request(wish: Wish, spec: LatentSpec) -> Request:
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
    if wish.via_image:
        if wish.references:
            raise UserError("--via-image draws the first frame, and one is given", "leave one of the two out")
        references: tuple[Any, ...] = ()
    else:
        wanted = wanted_frames(kind, len(wish.references), spec)
        references = tuple(
            pictures.read_reference(path, pictures.Wanted(*frames, height, width, wish.fit))
            for path, frames in zip(wish.references, wanted, strict=True)
        )
    return Request(wish.prompts, wish.frames, height, width, wish.fps, wish.motion, wish.negative, kind, references)


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


def _drawn_first(job: _Job, folder: SampleFolder) -> Request:
    """Text to image to video: the first frame is drawn, kept as PNG, and the video starts from it."""
    import torch

    from training import flow
    from training.condition import Kind
    from training.sampling import seeds
    from training.sampling.sampler import fitted
    from training.tokens import Grid

    request, (prompt,), (seed,) = job.request, job.request.prompts, job.seeds
    drawer = networks.image_model(job.model)
    height, width = _image_size(request)
    times = flow.times(job.settings.steps, Grid(1, height // 16, width // 16), job.settings.shift).tolist()
    image = drawer.draw(prompt, height, width, times, seeds.generator(seed, seeds.Purpose.IMAGE))
    folder.keep(f"first-{_slug(prompt)}-{seed}.png", pictures.png(image))
    drawn = torch.from_numpy(image).permute(2, 0, 1)[:, None].float() / 127.5 - 1
    return replace(request, kind=Kind.I2V_HEAD, references=(fitted(drawn, request.height, request.width),))


def _image_size(request: Request) -> tuple[int, int]:
    """The video's aspect at the pixels of 768px (spec section 5), in multiples of 16."""
    scale = max(1.0, 768 / (request.height * request.width) ** 0.5)
    return round(request.height * scale / 16) * 16, round(request.width * scale / 16) * 16


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not found:
        raise UserError(f"size {text!r}", "write WIDTHxHEIGHT, as in 336x192")
    return int(found[2]), int(found[1])


def _encoded(frames: np.ndarray, fps: int) -> bytes:
    return pictures.mp4(frames, fps) if len(frames) > 1 else pictures.png(frames[0])


def _line(job: _Job, name: str, content: bytes, request: Request, sampled: Sampled, device: str) -> Line:
    import torch

    wish, search = job.wish, job.search
    return Line(
        file=name,
        sha256=hashlib.sha256(content).hexdigest(),
        prompt=request.prompts[0],
        worded=sampled.prompts[0],
        seed=sampled.seeds[0],
        model=_model_name(wish.model),
        model_sha256=samples_file.of_model(job.model),
        torch=torch.__version__,
        device=torch.cuda.get_device_name() if device.startswith("cuda") else device,
        kind=str(request.kind),
        references=tuple(
            samples_file.Reference(path=each.absolute(), sha256=samples_file.of_file(each)) for each in wish.references
        ),
        fit=wish.fit,
        via_image=wish.via_image,
        frames=request.frames,
        height=request.height,
        width=request.width,
        fps=request.fps,
        motion=request.motion,
        negative=request.negative,
        steps=job.settings.steps,
        guidance=samples_file.Scales(**asdict(job.settings.guidance)),
        search=None if search is None else samples_file.SearchPart(**asdict(search), metrics=wish.metrics),
        found=None if sampled.found is None else _plain(asdict(sampled.found)),
    )


def _model_name(name: str) -> str:
    """A model file by its whole path, so that a line serves from any folder; one that ships by its name."""
    return str(Path(name).absolute()) if Path(name).is_file() else name


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """Steps as JSON has them, which knows no numbers for keys."""
    return {name: {str(step): value for step, value in by_step.items()} for name, by_step in found.items()}


def _slug(prompt: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40] or "prompt"
