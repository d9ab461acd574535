"""`ziggurat encode`: the samples of a manifest become latents and text states, by the encoders of a model."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from curation.errors import UserError
from curation.pyramid.storage.files import is_remote
from curation.shards import folder
from pipelines import encode as path
from pipelines.config import modelfile
from pipelines.config.recipe import limits_of
from pipelines.encoding.account import EncodeAccount
from pipelines.encoding.display import EncodeDisplay
from pipelines.encoding.latents import Latents
from pipelines.execution.cluster import joined
from pipelines.execution.records.recording import Recording
from pipelines.sampling.networks import need_torch


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `ziggurat encode`."""

    manifest: str
    model: str
    to: str
    address: str | None = None
    cpus: int | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """Where the latents are, and what became of the samples; `notes`: what the reader must know of them."""

    to: str
    manifest: str
    account: EncodeAccount
    notes: tuple[str, ...] = ()


def encode(request: Request, out: TextIO, as_json: bool) -> Answer:
    """Encode what has no latents yet; progress goes to `out` with `--json`, else to standard error."""
    model = modelfile.load(request.model)
    need_torch()
    pyramid, frozen = folder.opened(request.manifest)
    latents = Latents.at(request.to)
    if _is_within(latents.uri, pyramid.uri):  # a takedown would have to look for them
        raise UserError("latents do not go into the pyramid itself", "name another --to")
    latents.check(frozen.manifest.name, frozen.manifest.sha256)
    notes = _notes(model)
    account = EncodeAccount()
    display = EncodeDisplay(account, out, as_json)
    where = f"joining the Ray cluster at {request.address}" if request.address else "starting Ray"
    with ExitStack() as stack:
        with display.searching(where):
            resources = stack.enter_context(joined(request.address, request.cpus))
        record = stack.enter_context(Recording(pyramid, account, display).kept())
        record.joined(resources)
        record.notices = notes
        job = path.Job(frozen, pyramid, latents, model.name, model.spec, limits_of(pyramid), resources, account, record)
        path.encode(job)
        record.exit = account.exit_code
    return Answer(latents.uri, frozen.manifest.name, account, notes)


def _is_within(uri: str, folder: str) -> bool:
    """Whether a place is a folder or in it, by whatever path or links it is named."""
    if is_remote(uri) or is_remote(folder):
        return f"{uri}/".startswith(f"{folder}/")
    return Path(uri).resolve().is_relative_to(Path(folder).resolve())


def _notes(model: modelfile.ModelFile) -> tuple[str, ...]:
    if model.autoencoder.path is not None:
        return ()
    return (f"the autoencoder's weights are random (seed {model.autoencoder.seed}): the latents show that it runs",)
