"""Commands from a tier to what training reads: `freeze`, `manifests`, `encode`. `cli` takes them in; each calls one
function of the library.
"""

from __future__ import annotations

from typing import Annotated

import typer

from curation.errors import UserError
from pipelines.commands.options import AddressOption, CaptionByOption, CpusOption, JsonOption, PyramidArg
from pipelines.commands.server import Answered

app = typer.Typer()


@app.command(cls=Answered, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def freeze(
    context: typer.Context,
    pyramid: PyramidArg,
    name: Annotated[str, typer.Option(help="What the manifest is called from now on.")],
    tier: Annotated[str | None, typer.Option(help="Only clips of this tier.")] = None,
    preset: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Buckets: stage1, stage2, high_compression, image, ..., or a file.")
    ] = "stage1",
    seed: Annotated[int, typer.Option(min=0, help="Of the draws where a bucket takes only some.")] = 42,
    without_captions: Annotated[
        bool, typer.Option("--without-captions", help="Take clips that have no caption, too.")
    ] = False,
    caption_by: CaptionByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Freeze the clips of a tier, or of ranges as in `query` (--motion 1..8), as a manifest for training."""
    from pipelines.commands.answers import at
    from pipelines.commands.shards.freeze import Request
    from pipelines.render import shards as render_shards

    request = Request(pyramid, name, tuple(context.args), tier, preset, seed, without_captions, caption_by)
    render_shards.freeze(at(pyramid).freeze(request), as_json)


@app.command(cls=Answered)
def manifests(
    pyramid: PyramidArg,
    name: Annotated[str | None, typer.Argument(help="A manifest: show all of it.")] = None,
    unpin: Annotated[
        bool, typer.Option("--unpin", help="Let go of the versions that it pins, for `upkeep` and `forget` to remove.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the manifests that were frozen from a pyramid, or show one."""
    from pipelines.commands.answers import at
    from pipelines.render import shards as render_shards

    if unpin:
        if name is None:
            raise UserError("--unpin is of one manifest", "write `ziggurat manifests PYRAMID NAME --unpin`")
        render_shards.manifests([at(pyramid).unpin(name)], True, as_json)
        return
    render_shards.manifests(at(pyramid).manifests(name), name is not None, as_json)


@app.command()
def encode(
    manifest: Annotated[str, typer.Argument(metavar="MANIFEST", help="PYRAMID#NAME, or PYRAMID/manifests/NAME.json.")],
    model: Annotated[str, typer.Option("--model", "-m", help="A model file, or the name of one that ships.")],
    to: Annotated[str, typer.Option("--to", metavar="URI", help="The folder or prefix where the latents go.")],
    address: AddressOption = None,
    cpus: CpusOption = None,
    as_json: JsonOption = False,
) -> int:
    """Encode the samples of a manifest as latents and text states. Run it again to go on where it stopped."""
    from pipelines.commands.shards.encode import Request, encode
    from pipelines.progress.display import results_only
    from pipelines.render import shards as render_shards

    with results_only() as out:
        done = encode(Request(manifest, model, to, address, cpus), out, as_json)
        render_shards.encode(done, as_json, out)
    return done.account.exit_code
