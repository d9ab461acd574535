"""`ziggurat buckets`: the batch sizes of a bucket table, searched by running training steps on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict

from curation import outputs
from pipelines.config import modelfile
from pipelines.sampling import networks

T5_TOKENS = 512


def search(buckets: str, output: str, model_name: str, slack: float, largest: int, as_json: bool) -> None:
    """Write the table `buckets` with the batches that this machine takes; show what stands behind it."""
    model = modelfile.load(model_name)
    sampler = networks.sampler(model)
    from training.data.bucket_table import load
    from training.models.build import trainable
    from training.models.mmdit import MMDiT
    from training.models.mmdit import preset as network
    from training.tuning.measure import StepMeasure
    from training.tuning.search import report
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
    if as_json:
        for found in result.found:
            print(json.dumps(asdict(found)))
    else:
        print(report(result))
        print(f"written to {output}")
