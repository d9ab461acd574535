"""Commands about models: `sample`, `train`, `weights`, `cost`, `buckets`. `cli` takes them in; each calls one function
of the library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from curation.errors import UserError
from pipelines.commands.options import AddressOption, JsonOption
from pipelines.commands.training import adapters
from pipelines.render.lines import note

app = typer.Typer()
app.add_typer(adapters.app, name="lora")

ModelOption = Annotated[str, typer.Option("--model", "-m", help="A model file, or the name of one that ships.")]

RunOption = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Of a training run: its transformer in the place of the model's."),
]
StepOption = Annotated[int | None, typer.Option(min=0, help="The run's checkpoint; the newest by default.")]
RunAveragesOption = Annotated[
    bool | None,
    typer.Option("--averages/--no-averages", help="The EMA of the run's weights; by default where there is one."),
]
SizeOption = Annotated[str | None, typer.Option(metavar="WxH", help="An exact size instead.")]
FramesOption = Annotated[
    int, typer.Option(min=1, max=100_000, help="4k+1 for HunyuanVideo, 4k for DC-AE; 1 is an image.")
]
ReferenceOption = Annotated[list[Path] | None, typer.Option("--ref", help="Image or video to start from.")]
FitOption = Annotated[
    Literal["crop", "error"], typer.Option(help="A reference of another aspect: cropped, or refused.")
]
AgainOption = Annotated[
    str | None, typer.Option(metavar="SAMPLES", help="Make the videos of a samples.jsonl again; - reads lines.")
]


@app.command()
def sample(
    context: typer.Context,
    to: Annotated[
        str, typer.Option("--to", metavar="FOLDER", help="Where videos and the contact sheet go; path or URI.")
    ],
    prompts: Annotated[list[str] | None, typer.Argument(help="What the videos show, one each.")] = None,
    model: ModelOption = "tiny",
    run: RunOption = None,
    at_step: StepOption = None,
    averages: RunAveragesOption = None,
    resolution: Annotated[str, typer.Option(help="Pixel budget: 256px, 768px, 720p.")] = "256px",
    aspect: Annotated[str, typer.Option(help="Width to height: 16:9, 1:1, 9:16 and others.")] = "16:9",
    size: SizeOption = None,
    frames: FramesOption = 32,
    fps: Annotated[int, typer.Option(min=1, max=120, help="Frames a second, of the file and in the prompt.")] = 24,
    motion: Annotated[int, typer.Option(help="Motion score in the prompt, 1 to 15.")] = 4,
    negative: Annotated[str, typer.Option(help="The prompt to keep away from.")] = "",
    reference: ReferenceOption = None,
    kind: Annotated[str | None, typer.Option(help="How references are used: i2v_head, i2v_loop, v2v_tail, ...")] = None,
    fit: FitOption = "crop",
    via_image: Annotated[bool, typer.Option("--via-image", help="Draw the first frame with the image model.")] = False,
    steps: Annotated[int, typer.Option(help="Steps from noise to video.")] = 50,
    guidance: Annotated[float, typer.Option(help="How far towards the prompt.")] = 7.5,
    image_guidance: Annotated[float, typer.Option(help="How far towards the references.")] = 3.0,
    text_oscillation: Annotated[bool, typer.Option(help="Prompt guidance in every other step only.")] = True,
    image_oscillation: Annotated[bool, typer.Option(help="Reference guidance in every other step only.")] = True,
    dynamic_image: Annotated[bool, typer.Option(help="Image guidance by frame and step; never of a video.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the first prompt; the next ones count on.")] = 0,
    search_steps: Annotated[str | None, typer.Option(help="Steps at which candidates are tried, as 1,2,4,7.")] = None,
    candidates: Annotated[int, typer.Option(min=1, help="Candidates a searched step.")] = 3,
    metric: Annotated[list[str] | None, typer.Option(help="VBench metrics that judge candidates.")] = None,
    again: AgainOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make videos from prompts, images or videos."""
    from pipelines.render import models as render_models
    from pipelines.sampling import command
    from pipelines.sampling.wish import Wish

    watch = render_models.SampleWatch(as_json)
    if again is not None:
        _refuse(
            context, set(context.params) - {"again", "to", "as_json"}, "with --again, which takes all from its lines"
        )
        done = command.again(again, to, watch)
        render_models.samples(done, as_json)
        if done.changed:
            raise typer.Exit(1)
        return
    if run is None:
        _refuse(context, {"at_step", "averages"}, "without --run")
    if search_steps is None:
        _refuse(context, {"candidates", "metric"}, "without --search-steps")
    if size is not None:
        _refuse(context, {"resolution", "aspect"}, "beside --size")
    render_models.samples(command.run(Wish.of_command(context.params), to, watch), as_json)


def _refuse(context: typer.Context, names: set[str], why: str) -> None:
    """UserError where one of these parameters is on the command line: it would be ignored."""
    for parameter in context.command.params:
        source = context.get_parameter_source(str(parameter.name))
        if parameter.name in names and source is not None and source.name == "COMMANDLINE":
            shown = parameter.opts[0] if parameter.opts[0].startswith("-") else "a prompt"
            raise UserError(f"{shown} has no effect {why}", "leave it out")


@app.command()
def train(
    context: typer.Context,
    manifest: Annotated[str, typer.Argument(metavar="MANIFEST", help="PYRAMID#NAME, or PYRAMID/manifests/NAME.json.")],
    to: Annotated[str, typer.Option("--to", metavar="FOLDER", help="Checkpoints and log; holds one, the run goes on.")],
    latents: Annotated[
        str | None,
        typer.Option(metavar="URI", help="Where `encode` has put the manifest's latents; an autoencoder takes none."),
    ] = None,
    stream: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Instead: so many workers of Ray encode while training asks for samples."
        ),
    ] = None,
    model: ModelOption = "tiny",
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            "-p",
            help="stage1, stage1_i2v, stage2_i2v, high_compression, lora, tiny; autoencoder, autoencoder_gan, "
            "tiny_autoencoder; or a file.",
        ),
    ] = "tiny",
    steps: Annotated[int | None, typer.Option(min=1, help="Until so many in all; the preset's by default.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the preset."),
    ] = None,
    engine: Annotated[
        Literal["single", "ddp", "fsdp2", "colossal-1", "colossal-2"] | None,
        typer.Option(help="Who computes; by default colossal-2 with several processes, else single."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that Ray starts, a GPU each; without it this one alone.")
    ] = None,
    least: Annotated[
        int | None, typer.Option("--min-workers", min=1, help="Go on with so few where there is no room for more.")
    ] = None,
    restarts: Annotated[int, typer.Option(min=0, help="How often workers that were lost are started again.")] = 3,
    address: AddressOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a network on a manifest: the transformer on latents, or the autoencoder on frames, as the preset says. Run
    it again to go on where it stopped.
    """
    from pipelines.commands.training.train import Request
    from pipelines.commands.training.train import train as run
    from pipelines.render import training as render_training

    if workers is None:
        _refuse(context, {"least", "restarts"}, "without --workers: then no Ray starts any")
        if stream is None:
            _refuse(context, {"address"}, "without --workers and --stream: then no Ray is started")
    on_ray = workers, least, restarts, address, stream
    request = Request(manifest, latents, model, preset, to, steps, tuple(changes or ()), engine, *on_ray)
    done = run(request, render_training.TrainWatch(as_json))
    render_training.train(done, as_json)
    if done.unsampled:
        raise typer.Exit(1)


@app.command()
def weights(
    run: Annotated[str, typer.Argument(metavar="FOLDER", help="Of a training run.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="The .safetensors file to write.")],
    layout: Annotated[
        str, typer.Option(help="opensora_v2, flux or diffusers; of an autoencoder there is opensora_v2.")
    ] = "opensora_v2",
    step: Annotated[int | None, typer.Option(min=0, help="Of the checkpoint; the newest by default.")] = None,
    averages: Annotated[
        bool | None,
        typer.Option("--averages/--no-averages", help="The EMA of the weights; by default of an autoencoder alone."),
    ] = None,
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(help="Of the numbers: bfloat16 by default, float32 of an autoencoder."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the network of a checkpoint as safetensors, in a layout that other programs read."""
    from pipelines.commands.training.weights import weights as written
    from pipelines.render import training as render_training

    render_training.weights(written(run, output, layout, step, averages, dtype), as_json)


@app.command()
def cost(
    context: typer.Context,
    frames: Annotated[int | None, typer.Option(help="Of a clip; without it, the report's tables.")] = None,
    size: Annotated[str, typer.Option(metavar="WxH", help="Of the clip.")] = "256x256",
    autoencoder: Annotated[str, typer.Option(help="hunyuan, dcae or dcae256.")] = "hunyuan",
    gpu: Annotated[str, typer.Option(help="A100, H100, H200, B200.")] = "H200",
    gpus: Annotated[int, typer.Option(min=1)] = 1,
    samples: Annotated[int, typer.Option(min=1, help="Clips in a step, over all GPUs.")] = 1,
    step_seconds: Annotated[float | None, typer.Option(help="A measured step: gives mfu_step.")] = None,
    dit_seconds: Annotated[float | None, typer.Option(help="Its transformer's part: gives mfu_dit.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Count tokens, FLOPs, MFU and dollars: the report's tables, or any shape on any GPU."""
    from pipelines.commands.training import cost
    from pipelines.render import models as render_models

    cost.check_gpu(gpu)
    if frames is None:
        _refuse(context, set(context.params) - {"frames", "as_json"}, "without --frames: the tables are the report's")
        render_models.report(cost.report(), as_json)
        return
    if step_seconds is None:
        _refuse(context, {"dit_seconds"}, "without --step-seconds")
    shape = cost.cost(frames, size, autoencoder, gpu, gpus, samples, step_seconds, dit_seconds)
    render_models.cost(shape, as_json)


@app.command()
def buckets(
    table: Annotated[str, typer.Argument(help="stage1, stage1_i2v, stage2, stage2_i2v, high_compression, or a file.")],
    output: Annotated[str, typer.Option("--output", "-o", help="The TOML table to write; path or URI.")],
    model: ModelOption = "opensora2",
    slack: Annotated[float, typer.Option(min=0, help="The share by which a step may exceed the reference's.")] = 0.02,
    largest: Annotated[int, typer.Option(min=1, help="No batch above this is tried.")] = 1024,
    as_json: JsonOption = False,
) -> None:
    """Search the largest batch of every bucket on this GPU, so that all steps take the same time."""
    from pipelines.commands.training import buckets
    from pipelines.render import models as render_models

    found = buckets.search(table, output, model, slack, largest, note)
    render_models.buckets(found, as_json)
