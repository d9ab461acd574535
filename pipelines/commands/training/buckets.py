"""`ziggurat buckets`: the batch sizes of a bucket table, searched by running training steps on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curation import outputs
from pipelines.config import modelfile
from pipelines.sampling import networks

if TYPE_CHECKING:
    from training.tuning.search import SearchResult

T5_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Searched:
    """Where the table is, a path or a URI, and what stands behind it."""

    output: str
    result: SearchResult


def search(
    buckets: str, output: str, model_name: str, slack: float, largest: int, note: Callable[[str], None]
) -> Searched:
    """Write the table `buckets` with the batches that this machine takes. `note` hears what a person should know of the
    networks, before the steps begin.
    """
    model = modelfile.load(model_name)
    sampler = networks.sampler(model, None, note)
    from training.data.bucket_table import load
    from training.models.build import trainable
    from training.models.mmdit import MMDiT
    from training.models.mmdit import preset as network
    from training.tuning.measure import StepMeasure
    from training.tuning.search import search as run

    template = load(buckets)
    template.check(sampler.autoencoder.spec)
    outputs.check_file(output)
    assert isinstance(sampler.denoiser, MMDiT)
    denoiser = trainable(sampler.denoiser)
    config = network(model.denoiser.preset)
    text = (T5_TOKENS, config.context_in_dim, config.vec_in_dim)
    measure = StepMeasure(denoiser, sampler.autoencoder, text, sampler.device, sampler.dtype)
    result = run(template, sampler.autoencoder.spec, measure, slack, largest)
    outputs.write(output, result.table.to_toml().encode())
    return Searched(output, result)
