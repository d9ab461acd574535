"""`ziggurat sample`: prompts and images to MP4 files, a contact sheet and one line a video that makes it again.

Arguments become a `Wish`, and so does a line of `samples.jsonl`; a wish, checked, becomes a `Job`, and a job videos.
Files are written here, the networks come from `networks`. All that can be told before they are loaded is told then.
A video may take hours: a `Watch` hears of each when it is there, and shows it.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from pipelines.sampling import networks, pictures, samples_file
from pipelines.sampling.folder import SampleFolder
from pipelines.sampling.job import Job, prepared
from pipelines.sampling.samples_file import Line
from pipelines.sampling.wish import Wish

if TYPE_CHECKING:
    from training.sampling.sampler import Request, Sampled, Sampler


@dataclass(frozen=True, slots=True)
class Made:
    """A video that is there: the path or URI of its file, and the line that makes it again."""

    place: str
    line: Line


@dataclass(frozen=True, slots=True)
class Samples:
    """What a command has made, in its order. `folder`, `sheet`: path or URI; `changed`: of `again`, the files that are
    not what their lines say.
    """

    folder: str
    sheet: str
    made: tuple[Made, ...]
    changed: tuple[str, ...] = ()


class Watch(Protocol):
    """What shows a command's work to a person or a program while it is done."""

    def note(self, text: str) -> None: ...
    def made(self, made: Made) -> None: ...


def run(wish: Wish, to: str, watch: Watch) -> Samples:
    """The command. UserError for whatever the user can mend, before the networks are loaded where it can be told."""
    networks.need_torch()
    job = prepared(wish, watch.note)
    folder = SampleFolder(to)
    sampler = _loaded(job, watch)
    making = _Making(folder, watch)
    making.all_of(job, sampler)
    return making.finish()


def again(source: str, to: str, watch: Watch) -> Samples:
    """Make the videos of the lines of a `samples.jsonl` again; `Samples.changed` names those that came out otherwise.

    UserError: lines that cannot be read, or whose model or references have changed.
    """
    networks.need_torch()
    lines = samples_file.read(source)
    for line in lines:
        line.check_sources()
    folder = SampleFolder(to)
    making, sampler, held = _Making(folder, watch), None, None
    changed: list[str] = []
    for line in lines:
        job = prepared(Wish.of_line(line), watch.note)
        if sampler is None or held != (job.model, job.chosen):
            sampler, held = _loaded(job, watch), (job.model, job.chosen)
        (made,) = making.all_of(job, sampler)
        if made.sha256 != line.sha256:
            changed.append(made.file)
            watch.note(f"{made.file} is not the file that {line.file} was{_why(line, made)}")
    return making.finish(tuple(changed))


def _why(old: Line, new: Line) -> str:
    changed = [f"{name} was {was}" for name in ("torch", "device") if (was := getattr(old, name)) != getattr(new, name)]
    return f": {', '.join(changed)}" if changed else ", as another machine may give"


def _loaded(job: Job, watch: Watch) -> Sampler:
    with networks.room_for(f"model {job.model.name}"):
        return networks.sampler(job.model, job.chosen, watch.note)


class _Making:
    """Videos on their way into a folder: each is written with its line, all are shown on one sheet."""

    def __init__(self, folder: SampleFolder, watch: Watch) -> None:
        self._folder, self._watch = folder, watch
        self._made: list[Made] = []
        self._shown: list[tuple[str, np.ndarray]] = []

    def all_of(self, job: Job, sampler: Sampler) -> list[Line]:
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

    def _keep(self, job: Job, request: Request, sampled: Sampled, device: str) -> Line:
        frames = sampled.videos_BTHW3[0].numpy()
        prompt, seed = request.prompts[0], sampled.seeds[0]
        suffix = ".png" if len(frames) == 1 else ".mp4"
        name, content = f"{len(self._made):03d}-{_slug(prompt)}-{seed}{suffix}", _encoded(frames, request.fps)
        place = self._folder.keep(name, content)
        line = _line(job, name, content, request, sampled, device)
        self._folder.list(line.model_dump_json())
        self._made.append(made := Made(place, line))
        self._watch.made(made)
        self._shown.append((f"{prompt}  seed {seed}", pictures.spread(frames)))
        return line

    def finish(self, changed: tuple[str, ...] = ()) -> Samples:
        """Draw the sheet; all that was made."""
        sheet = self._folder.keep("sheet.png", pictures.contact_sheet(self._shown))
        return Samples(str(self._folder), sheet, tuple(self._made), changed)


def _drawn_first(job: Job, folder: SampleFolder) -> Request:
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


def _encoded(frames: np.ndarray, fps: int) -> bytes:
    return pictures.mp4(frames, fps) if len(frames) > 1 else pictures.png(frames[0])


def _line(job: Job, name: str, content: bytes, request: Request, sampled: Sampled, device: str) -> Line:
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
        run=_run_part(job),
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


def _run_part(job: Job) -> samples_file.RunPart | None:
    if job.chosen is None or job.wish.run is None:
        return None
    chosen = job.chosen
    return samples_file.RunPart(
        folder=job.wish.run.folder.absolute(),
        step=chosen.step,
        averages=chosen.averages,
        sha256=chosen.sha256,
    )


def _model_name(name: str) -> str:
    """A model file by its whole path, so that a line serves from any folder; one that ships by its name."""
    return str(Path(name).absolute()) if Path(name).is_file() else name


def _plain(found: dict[str, Any]) -> dict[str, Any]:
    """Steps as JSON has them, which knows no numbers for keys."""
    return {name: {str(step): value for step, value in by_step.items()} for name, by_step in found.items()}


def _slug(prompt: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40] or "prompt"
