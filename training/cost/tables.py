"""The report's numbers, computed: Tables 1, 3, 4 and 5, figures 6 and 8, and the FLOPs and MFU behind them.

`report` gives all of them as rows, which `ziggurat cost` prints as tables or as JSON. What stands here as a constant
the report measured or chose: GPUs, days, batch sizes, seconds, channels. Everything else follows by `cost`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from curation.errors import UserError
from training.cost.formulas import (
    GPUS,
    SECONDS_PER_DAY,
    TEXT_TOKENS,
    Gpu,
    SampleCost,
    Transformer,
    Utilisation,
    dollars,
    gpu_named,
    information_ratio,
    sample_cost,
    seconds_at,
    token_ratio,
    utilisation,
)
from training.models.base import LatentSpec

HUNYUAN = LatentSpec(channels=16, time=4, space=8, causal=True, patch=2)
DCAE = LatentSpec(channels=128, time=4, space=32, causal=False, patch=1)
DCAE_256 = replace(DCAE, channels=256)


@dataclass(frozen=True, slots=True)
class AutoencoderRow:
    """A line of Table 1. `tokens`: of the 768 px clip of 129 frames (5 s), by the ratio; None without a known patch."""

    name: str
    down: str
    channels: int
    information_ratio: float
    token_ratio: int | None
    tokens: float | None


def autoencoders() -> list[AutoencoderRow]:
    """Table 1 (spec section 1.6)."""
    return [
        AutoencoderRow("Open-Sora 1.2", "4x8x8", 4, information_ratio(LatentSpec(4, 4, 8, True, 1)), None, None),
        AutoencoderRow("StepVideo", "8x16x16", 64, information_ratio(LatentSpec(64, 8, 16, True, 1)), None, None),
        _autoencoder("HunyuanVideo", HUNYUAN),
        _autoencoder("Video DC-AE", DCAE),
        _autoencoder("Video DC-AE, 256 channels", DCAE_256),
    ]


def _autoencoder(name: str, spec: LatentSpec) -> AutoencoderRow:
    """The report counts by D_token from HunyuanVideo's 129 frames, which no autoencoder without causality takes."""
    down, ratio = f"{spec.time}x{spec.space}x{spec.space}", token_ratio(spec)
    tokens = HUNYUAN.grid(129, 768, 768).tokens * token_ratio(HUNYUAN) / ratio
    return AutoencoderRow(name, down, spec.channels, information_ratio(spec), ratio, tokens)


@dataclass(frozen=True, slots=True)
class Stage:
    """A line of Table 3. Iterations, GPUs and days are the report's."""

    name: str
    samples: float
    cp: int
    iterations: int
    gpus: int
    days: float
    per_hour: float = 2.0

    @property
    def gpu_days(self) -> float:
        return self.gpus * self.days

    @property
    def usd(self) -> float:
        return dollars(self.gpu_days, self.per_hour)

    @property
    def seconds_per_iteration(self) -> float:
        return self.days * SECONDS_PER_DAY / self.iterations


STAGES = (
    Stage("256px T2V", 70e6, 1, 85_000, 224, 10),
    Stage("256px T/I2V", 10e6, 1, 13_000, 192, 2),
    Stage("768px T/I2V", 5e6, 4, 13_000, 192, 8),
)


@dataclass(frozen=True, slots=True)
class StageRow:
    """A stage of training, or the sum of all (with no iterations of its own)."""

    name: str
    gpu_days: float
    gpu_hours: float
    usd: float
    seconds_per_iteration: float | None


def stages(plan: tuple[Stage, ...] = STAGES) -> list[StageRow]:
    """Table 3 and its total."""
    rows = [StageRow(s.name, s.gpu_days, s.gpu_days * 24, s.usd, s.seconds_per_iteration) for s in plan]
    days = sum(stage.gpu_days for stage in plan)
    return [*rows, StageRow("Total", days, days * 24, sum(stage.usd for stage in plan), None)]


@dataclass(frozen=True, slots=True)
class Bucket:
    """A line of Table 4 or 5: `batch` a GPU, or a group of `cp` GPUs; `throughput` in samples/s on `gpus` H200."""

    side: int
    frames: int
    batch: int
    throughput: float
    cp: int
    gpus: int = 8


TABLE_4 = (
    Bucket(256, 33, 12, 12.7, cp=1),
    Bucket(256, 65, 6, 6.3, cp=1),
    Bucket(256, 97, 4, 4.2, cp=1),
    Bucket(256, 129, 3, 3.2, cp=1),
    Bucket(256, 1, 45, 47.6, cp=1),
    Bucket(768, 1, 13, 13.8, cp=1),
    Bucket(1024, 1, 7, 7.4, cp=1),
)
TABLE_5 = (
    Bucket(768, 33, 6, 0.25, cp=4),
    Bucket(768, 65, 4, 0.17, cp=4),
    Bucket(768, 97, 3, 0.13, cp=4),
    Bucket(768, 129, 2, 0.08, cp=4),
    Bucket(768, 1, 38, 1.60, cp=4),
)
SELECTIVE, FULL = (8, 38), (19, 38)
"""Checkpointed double and single blocks: of Table 4's stages, and of Table 5's (spec section 4.5)."""


@dataclass(frozen=True, slots=True)
class BucketRow:
    """A bucket: the most tokens it holds, what its step takes, and how much of the peak that is, end to end."""

    side: int
    frames: int
    max_tokens: int
    batch: int
    step_seconds: float
    throughput: float
    mfu_step: float
    hfu_step: float


def buckets(table: tuple[Bucket, ...], checkpointed: tuple[int, int], gpu: Gpu = GPUS["H200"]) -> list[BucketRow]:
    """Table 4 or 5 with step time and MFU (spec section 6)."""
    return [_bucket(bucket, Transformer().recompute(*checkpointed), gpu) for bucket in table]


def _bucket(bucket: Bucket, recompute: float, gpu: Gpu) -> BucketRow:
    sample = sample_cost(HUNYUAN, bucket.frames, bucket.side, bucket.side)
    samples = bucket.batch * bucket.gpus // bucket.cp
    seconds = samples / bucket.throughput
    used = utilisation(sample, samples, bucket.gpus, gpu, seconds, recompute=recompute)
    return BucketRow(
        *(bucket.side, bucket.frames, sample.video_tokens, bucket.batch, seconds, bucket.throughput),
        *(used.mfu_step, used.hfu_step),
    )


@dataclass(frozen=True, slots=True)
class FlopsRow:
    """A shape: tokens with text, forward FLOPs a token, attention's share of them, FLOPs to train on a sample."""

    case: str
    length: int
    forward_per_token: float
    attention_share: float
    train: float


CASES = (
    ("256px 1 f", HUNYUAN, 1, 256),
    ("256px 33 f", HUNYUAN, 33, 256),
    ("768px image", HUNYUAN, 1, 768),
    ("256px 129 f", HUNYUAN, 129, 256),
    ("768px 33 f", HUNYUAN, 33, 768),
    ("768px 65 f", HUNYUAN, 65, 768),
    ("768px 129 f", HUNYUAN, 129, 768),
    ("DC-AE 768px 128 f", DCAE, 128, 768),
)


def flops(model: Transformer | None = None) -> list[FlopsRow]:
    """The table of spec section 6."""
    costs = [(case, sample_cost(spec, frames, side, side, model)) for case, spec, frames, side in CASES]
    return [FlopsRow(case, c.length, c.forward_per_token, c.attention_share, c.train) for case, c in costs]


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A line of figure 8: eight H200 at 768 px and the longest clip, and sampling on one GPU."""

    name: str
    spec: LatentSpec
    frames: int
    cp: int
    batch: int
    step_seconds: float
    sample_seconds: float


FIGURE_8 = (
    TrainingRun("HunyuanVideo VAE", HUNYUAN, 129, 4, 2, 37.2, 1656),
    TrainingRun("Video DC-AE", DCAE, 128, 1, 2, 28.6, 162),
)
SAMPLING_STEPS, GUIDANCE_FORWARDS = 50, 3
"""Steps of a sampling, and forwards a step for guidance by text and image (report 5.2)."""
REPORTED_MFU = {1: 0.3819, 4: 0.3575}
"""The report's MFU (6.1), by context parallelism; it fits the transformer's forward and backward alone."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run of figure 8. `dit_seconds`: the part of a step that the transformer takes at the report's MFU.

    `sampling`: FLOP/s of the transformer while sampling one video. `faster`, `samples_faster`: against the first run.
    """

    name: str
    videos_per_second: float
    mfu_step: float
    hfu_step: float
    dit_seconds: float
    sampling: float
    faster: float
    samples_faster: float


def runs(gpus: int = 8, gpu: Gpu = GPUS["H200"]) -> list[RunRow]:
    """Figure 8: throughput, MFU and sampling with the two autoencoders; every block is checkpointed."""
    first = FIGURE_8[0]
    return [_run(run, first, gpus, gpu) for run in FIGURE_8]


def _run(run: TrainingRun, first: TrainingRun, gpus: int, gpu: Gpu) -> RunRow:
    sample = sample_cost(run.spec, run.frames, 768, 768)
    clips = run.batch * gpus // run.cp
    speed = clips / run.step_seconds
    used = utilisation(sample, clips, gpus, gpu, run.step_seconds, recompute=Transformer().recompute(*FULL))
    return RunRow(
        run.name,
        speed,
        used.mfu_step,
        used.hfu_step,
        seconds_at(clips * sample.train, REPORTED_MFU[run.cp], gpus, gpu),
        SAMPLING_STEPS * GUIDANCE_FORWARDS * sample.forward / run.sample_seconds,
        speed / (first.batch * gpus // first.cp / first.step_seconds),
        first.sample_seconds / run.sample_seconds,
    )


@dataclass(frozen=True, slots=True)
class ShapeReport:
    """A shape on a kind of GPU. `peak_seconds`: training on a sample at the peak of one. `used`: if time was given."""

    sample: SampleCost
    forward: float
    train: float
    gpu: Gpu
    peak_seconds: float
    used: Utilisation | None


AUTOENCODERS = {"hunyuan": HUNYUAN, "dcae": DCAE, "dcae256": DCAE_256}


def shape(
    autoencoder: str,
    frames: int,
    height: int,
    width: int,
    *,
    gpu: str = "H200",
    model: Transformer | None = None,
    text: int = TEXT_TOKENS,
    gpus: int = 1,
    samples: int = 1,
    step_seconds: float | None = None,
    dit_seconds: float | None = None,
    checkpointed: tuple[int, int] = (0, 0),
) -> ShapeReport:
    """The cost of any shape, and the MFU of a step with `samples` of them over all GPUs where its time is given."""
    if autoencoder not in AUTOENCODERS:
        raise UserError(f"there is no autoencoder {autoencoder!r}", f"choose one of {', '.join(AUTOENCODERS)}")
    model, chosen = model or Transformer(), gpu_named(gpu)
    sample = sample_cost(AUTOENCODERS[autoencoder], frames, height, width, model, text)
    used = None
    if step_seconds is not None:
        recompute = model.recompute(*checkpointed)
        used = utilisation(sample, samples, gpus, chosen, step_seconds, dit_seconds, recompute)
    return ShapeReport(sample, sample.forward, sample.train, chosen, sample.train / chosen.bf16, used)


@dataclass(frozen=True, slots=True)
class Report:
    """All tables."""

    autoencoders: list[AutoencoderRow]
    stages: list[StageRow]
    buckets_256: list[BucketRow]
    buckets_768: list[BucketRow]
    flops: list[FlopsRow]
    runs: list[RunRow]
    gpus: list[Gpu]


def report() -> Report:
    """Every table of this module; `dataclasses.asdict` makes JSON of it."""
    return Report(
        autoencoders(), stages(), buckets(TABLE_4, SELECTIVE), buckets(TABLE_5, FULL), flops(), runs(), [*GPUS.values()]
    )
