"""The other main path: the samples of a manifest become latents and text states, which training reads.

    manifest -> who are the encoders? [describe] -> samples without a row -> [encode] -> rows

Each bracket is a pipeline on Ray Data, as in `curate`. A worker writes its rows, keeps their ticket in the journal and
goes on; the driver commits tickets. So a run after a kill, or a second one, does what has no row yet, and nothing else.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from curation.contract import Reason
from curation.errors import UserError
from curation.media.plan import Limits
from curation.pyramid.storage.lookup import chunks
from curation.pyramid.store import Pyramid
from curation.shards.manifest import Frozen
from curation.shards.takedown import forgotten
from pipelines.encoding.account import EncodeAccount
from pipelines.encoding.latents import Latents
from pipelines.encoding.placed import placed
from pipelines.execution.cluster import Resources
from pipelines.execution.ray_data import Delivery, StageSpec, pool_size, run, start_coordinator
from pipelines.frames.stored import still_there
from pipelines.progress.watch import Watch
from pipelines.stages.encode import DescribeStage, EncodeDone, EncodeStage, SamplesToEncode
from training.data.fitting import check_buckets

if TYPE_CHECKING:
    from training.data.latent_file import Encoders, Head
    from training.models.build import ModelSpec

DESCRIBE, ENCODE = "describe", "encode"
ITEM = 32
"""Samples of an item: a worker reads their bytes at once, and keeps results every few seconds."""
IN_HAND = 20_000
"""Samples whose rows the driver holds at a time, whatever the size of the manifest."""
COMMIT_EVERY_S = 5.0
ATTEMPTS = 3
STOP_AFTER = 20
"""Samples in a row that fail for one cause before it is taken for the set-up's."""
_CPUS = 0.8


@dataclass(frozen=True, slots=True)
class Job:
    """One run: what it encodes, with what, and to where."""

    frozen: Frozen
    pyramid: Pyramid
    latents: Latents
    model_name: str
    model: ModelSpec
    limits: Limits
    resources: Resources
    account: EncodeAccount
    watch: Watch

    @property
    def placed(self) -> tuple[ModelSpec, float]:
        return placed(self.model, self.resources)

    def stage(self, name: str, make: Any, **options: Any) -> StageSpec:
        """A stage with a worker's share of processors: one a thread, but no more than a machine has."""
        machine = self.resources.cpus / max(1, self.resources.nodes)
        return StageSpec(name, make, cpus=_CPUS * min(self.model.threads, machine), gpus=self.placed[1], **options)


def encode(job: Job) -> None:
    """Bring every sample of the manifest to its row. `account` says at the end what became of each."""
    began, account, latents = time.monotonic(), job.account, job.latents
    manifest = job.frozen.manifest
    account.samples = manifest.samples
    latents.check(manifest.name, manifest.sha256)
    with latents.alone():
        coordinator = start_coordinator(ATTEMPTS)
        head = _head(job, _described(job, coordinator))
        check_buckets(job.frozen, head.encoders.spec)
        with job.watch.searching("looking up what is encoded"):
            latents.begin(head)
            done = {int(number) for number in latents.done(head.by)}
            account.recovered = latents.recover(done)
            taken = set(forgotten(job.frozen, job.pyramid))
            account.removed = latents.remove(taken)
        account.taken_down = len(taken)
        account.done_before = len(done - taken)
        todo = manifest.samples - len(done | taken)
        with job.watch.over(ENCODE, coordinator) if todo else nullcontext():
            job.watch.expect(todo)
            for window in _windows(job.frozen, done | taken):
                _encode(job, head, coordinator, window, done)
        latents.tidy()
    account.seconds = time.monotonic() - began
    account.check()


def _described(job: Job, coordinator: Any) -> Encoders:
    """Who the encoders are, said by a worker as those that will encode."""
    stage = job.stage(DESCRIBE, DescribeStage(job.placed[0]))
    with job.watch.over(DESCRIBE, coordinator):
        job.watch.expect(1)
        (delivery,) = run([job.model_name], [stage], coordinator, job.resources, _nothing_kept)
        job.account.flows.now.count(1)
        job.watch.advance(1)
    return delivery.result


def _head(job: Job, encoders: Encoders) -> Head:
    from training.data.latent_file import Head

    manifest = job.frozen.manifest
    return Head(manifest.name, manifest.sha256, job.pyramid.uri, job.model_name, encoders)


def _windows(frozen: Frozen, settled: Collection[int]) -> Iterator[list[SamplesToEncode]]:
    """The samples that are not settled, in items, those of a bucket together."""
    numbers = np.arange(frozen.manifest.samples, dtype=np.int64)
    todo = np.setdiff1d(numbers, np.fromiter(settled, np.int64, len(settled)))
    samples = frozen.samples.append_column("sample", pa.array(numbers)).take(pa.array(todo))
    names = ("bucket_frames", "bucket_height", "bucket_width", "sample")
    samples = samples.sort_by([(name, "ascending") for name in names])
    for start in range(0, samples.num_rows, IN_HAND):
        yield [SamplesToEncode(tuple(some)) for some in chunks(samples.slice(start, IN_HAND).to_pylist(), ITEM)]


def _encode(job: Job, head: Head, coordinator: Any, items: Sequence[SamplesToEncode], done: set[int]) -> None:
    manifest, made = job.frozen.manifest, head.encoders
    media = still_there(job.pyramid, manifest.versions.get("media"))
    encoders = (made.autoencoder, made.text)
    make = EncodeStage(job.pyramid, media, job.latents, job.placed[0], encoders, head.by, manifest.seed, job.limits)
    stage = job.stage(ENCODE, make, give_up=make.give_up, paced=True)
    keep = _Keep(job.latents, uuid.uuid4().hex[:12])
    job.account.flows.now.pool(pool_size(stage, 1, job.resources, len(items)), stage.gpus)
    deliveries = run(items, [stage], coordinator, job.resources, keep, ATTEMPTS)
    for some in _timed(_told(job, deliveries), COMMIT_EVERY_S):
        tickets = [one.result.ticket for one in some if one.result.ticket]
        job.latents.commit(tickets, done)
        job.latents.forget(one.entry for one in some if one.entry)
        job.account.commits += 1
    job.latents.close(keep.run)


def _told(job: Job, deliveries: Iterator[Delivery]) -> Iterator[Delivery]:
    """The same deliveries, counted and shown. UserError where one cause fails sample after sample."""
    account, row, cause = job.account, 0, ""
    for delivery in deliveries:
        result: EncodeDone = delivery.result
        gone = {number: why for number, why in result.failed.items() if why == Reason.TAKEN_DOWN}
        failed = {number: why for number, why in result.failed.items() if number not in gone}
        account.done += len(result.samples)
        account.taken_down += len(gone)
        account.failures(failed)
        account.truncated += result.truncated
        account.frames += result.frames
        account.bytes += result.bytes
        account.flows.now.count(len(result.samples), result.failed.values(), result.bytes)
        job.watch.advance(len(result.samples) + len(result.failed))
        yield delivery
        for why in failed.values():
            kind = why.partition(":")[0]
            row, cause = (row + 1 if kind == cause else 1), kind
            if row >= STOP_AFTER and not account.done:
                raise UserError(f"the first {row} samples failed for one cause: {why}", "mend that, and run it again")


def _timed(deliveries: Iterator[Delivery], seconds: float) -> Iterator[list[Delivery]]:
    """Deliveries as they come within so many seconds; what waits for the next one is in the journal."""
    some: list[Delivery] = []
    since = time.monotonic()
    for delivery in deliveries:
        some.append(delivery)
        if time.monotonic() - since >= seconds:
            yield some
            some, since = [], time.monotonic()
    if some:
        yield some


def _nothing_kept(result: Any) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class _Keep:
    """Writes a worker's tickets into the journal of the latents."""

    latents: Latents
    run: str

    def __call__(self, result: EncodeDone) -> str:
        return self.latents.keep(self.run, result.ticket) if result.ticket else ""
