"""The transformer that a run has trained, to sample with: a checkpoint's weights in the place of the model file's.

    a run's folder -> [chosen] -> Chosen -> [weights] -> Tensors -> `models.build.denoiser`

Choosing reads a head and no weight, so it is done before any network is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from curation.errors import UserError
from training.assemble import CHECKPOINTS
from training.checkpoint.folder import Checkpoints, Head, sha256_of, step_of
from training.checkpoint.load import tensors
from training.checkpoint.state import AVERAGE, WEIGHT
from training.lora import base, trained
from training.lora.merge import Merged
from training.models.build import DenoiserSpec
from training.models.weights import InMemory, Tensors


@dataclass(frozen=True, slots=True)
class Chosen:
    """A whole checkpoint. `averages`: the EMA of its weights is meant. `sha256`: of its head, by which it is known."""

    checkpoint: Path
    averages: bool
    sha256: str

    @property
    def step(self) -> int:
        return step_of(self.checkpoint)


def chosen(run: Path, spec: DenoiserSpec, step: int | None = None, averages: bool | None = None) -> Chosen:
    """A run's newest checkpoint, or that of `step`. `averages` None: they are meant where there are any, for they are
    what validation looks at.

    UserError: there is none, it is of an autoencoder or of another transformer than `spec`, or has no averages.
    """
    checkpoint = Checkpoints(run / CHECKPOINTS).chosen(step)
    head = Head.read(checkpoint)
    if head.method != "flow_matching":
        told = f"{run} trained an autoencoder, and a transformer is what samples"
        raise UserError(
            told, "write its weights with `ziggurat weights`, and name them in a model file's [autoencoder]"
        )
    if head.network != spec.preset:
        told = f"{run} trained the transformer {head.network}, and the model's is {spec.preset}"
        raise UserError(told, "give --model, the one that was trained with")
    held = AVERAGE in head.parts
    if averages and not held:
        raise UserError(f"{checkpoint} holds no averages of the weights", "leave --averages out")
    return Chosen(checkpoint, held if averages is None else averages, sha256_of(checkpoint))


def weights(found: Chosen, spec: DenoiserSpec) -> tuple[Tensors, str | None]:
    """All of the transformer's weights, and what a person should know of them. An adapter is merged into the model's
    own, a tensor at a time. UserError: a file is not as it was saved, or the adapter does not fit.
    """
    head = Head.read(found.checkpoint)
    if head.identity.alpha is None:
        held = tensors(found.checkpoint, AVERAGE if found.averages else WEIGHT)
        return InMemory(held, str(found.checkpoint)), None
    adapter = trained.read(found.checkpoint, found.averages)
    _, under = base.weights_of(spec)
    told = None
    if adapter.base and not base.known(adapter.base, under):
        told = f"{found.checkpoint} is an adapter that was trained on other weights than the model's"
    return Merged(under, adapter), told
