"""The commands below `ziggurat lora`. `training` takes them in; each calls one function of `lora`."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from pipelines.commands.options import JsonOption
from pipelines.render.lines import note

app = typer.Typer(help="Adapters of low rank (LoRA): merge, export, extract.", no_args_is_help=True)

AdapterArg = Annotated[
    str,
    typer.Argument(metavar="ADAPTER", help="A folder in peft's format, a training run's folder, or a checkpoint."),
]
ModelOption = Annotated[str, typer.Option("--model", "-m", help="The model file that the adapter was trained on.")]
AveragesOption = Annotated[bool, typer.Option("--averages", help="Of a training run: the EMA of the adapter.")]


@app.command()
def merge(
    adapter: AdapterArg,
    model: ModelOption,
    to: Annotated[str, typer.Option("--to", metavar="FILE", help="The .safetensors file to write.")],
    averages: AveragesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a model's transformer with the adapter merged into its weights."""
    from pipelines.commands.training import lora
    from pipelines.render import lora as render_lora

    render_lora.merged(lora.merge(adapter, model, to, averages, note), as_json)


@app.command()
def export(
    adapter: AdapterArg,
    model: ModelOption,
    to: Annotated[str, typer.Option("--to", metavar="FOLDER", help="The folder to write.")],
    form: Annotated[Literal["diffusers", "peft"], typer.Option("--format", help="Who is to read it.")] = "peft",
    averages: AveragesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write an adapter in the format of peft or of diffusers."""
    from pipelines.commands.training import lora
    from pipelines.render import lora as render_lora

    render_lora.exported(lora.export(adapter, model, form, to, averages), as_json)


@app.command()
def extract(
    base: Annotated[str, typer.Argument(metavar="BASE", help="A checkpoint: safetensors, their index or folder.")],
    tuned: Annotated[str, typer.Argument(metavar="TUNED", help="The same network, trained on.")],
    rank: Annotated[int, typer.Option(min=1, help="Of the adapter.")],
    to: Annotated[str, typer.Option("--to", metavar="FOLDER", help="The folder to write.")],
    targets: Annotated[str, typer.Option(help="Layers that may change: attn, mlp, mod, all; with commas.")] = "all",
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Where the two are in different layouts, or in diffusers'.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the best adapter of a rank that turns one checkpoint into another, and how near it comes."""
    from pipelines.commands.training import lora
    from pipelines.render import lora as render_lora

    wanted = [target.strip() for target in targets.split(",")]
    render_lora.extracted(lora.extract(base, tuned, rank, wanted, to, model), as_json)
