"""The command `ziggurat`. Each subcommand reads its arguments, calls one function of the library, and shows the result.

Results go to standard output, progress and logs to standard error; `--json` prints one object a line. What the person
can put right is one line and exit code 2, a signal one line and 130 or 143 (`main`). Heavy packages are imported inside
the commands: `--help` is quick.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from curation.errors import UserError
from curation.printable import printable
from pipelines import logs
from pipelines.commands.jobs import app as jobs_on_ray
from pipelines.commands.lifecycle import app as lifecycle
from pipelines.commands.options import AddressOption, CaptionByOption, CpusOption, JsonOption, PyramidArg, RetryOption
from pipelines.commands.pyramid import app as looking
from pipelines.commands.review import app as review
from pipelines.commands.server import Answered, Commands
from pipelines.commands.service import app as service
from pipelines.commands.shards import app as shards
from pipelines.commands.similar import app as similar
from pipelines.commands.training import app as training
from pipelines.execution import signals

app = typer.Typer(
    name="ziggurat",
    cls=Commands,
    help="Turn raw video into a data pyramid and train video models on its tiers.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ziggurat {version('ziggurat')}")
        raise typer.Exit


@app.callback()
def _whole(
    version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and end.")
    ] = False,
    log_format: Annotated[
        str | None,
        typer.Option(metavar="text|json", help="json: one object a line on standard error; also ZIGGURAT_LOG_FORMAT."),
    ] = None,
) -> None:
    """Turn raw video into a data pyramid and train video models on its tiers."""
    logs.configure(log_format)


OwnRecipeOption = Annotated[
    str | None,
    typer.Option("--recipe", "-r", help="A recipe file, or the name of one that ships; the pyramid's own by default."),
]
ReplaceOption = Annotated[
    bool, typer.Option("--replace-recipe", help="Put the recipe, its tiers included, in the place of the pyramid's.")
]
RecipeOption = Annotated[str, typer.Option("--recipe", "-r", help="A recipe file, or the name of one that ships.")]


@app.command()
def curate(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, globs, lists (.txt .csv .tsv .jsonl .parquet) or URIs; with --fill the pyramid."
        ),
    ],
    to: Annotated[str | None, typer.Option("--to", metavar="PYRAMID", help="Where the pyramid is or will be.")] = None,
    recipe: OwnRecipeOption = None,
    replace_recipe: ReplaceOption = False,
    fill: Annotated[
        bool, typer.Option("--fill", help="Fill the scores that clips of a pyramid lack, and cut what its tier keeps.")
    ] = False,
    address: AddressOption = None,
    cpus: CpusOption = None,
    retry: RetryOption = False,
    root: Annotated[str | None, typer.Option(help="Take nothing from outside this folder.")] = None,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Take what links in a folder lead to, wherever that is.")
    ] = False,
    sidecars: Annotated[
        str | None,
        typer.Option(metavar="txt,json", help="Take captions from such files beside the videos: the first there is."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do nothing: tell what would be done, and try a few sources.")
    ] = False,
    as_json: JsonOption = False,
) -> int:
    """Curate raw video into clips with scores. Run it again to go on where it stopped."""
    from curation.inputs.sidecars import Sidecars
    from pipelines.execution import jobs

    options, beside = jobs.Options(recipe, replace_recipe, address, cpus, retry, as_json), Sidecars.of(sidecars)
    if fill:
        if len(sources) != 1 or to is not None or root is not None or dry_run or sidecars is not None:
            raise UserError("--fill works on what a pyramid holds", "write `ziggurat curate PYRAMID --fill`")
        return jobs.run_fill(sources[0], options)
    if to is None:
        raise UserError("no pyramid is named", "name it with --to PYRAMID")
    if not dry_run:
        return jobs.run_curate(sources, to, options, root, follow_links, beside)
    from pipelines.commands.pyramid import dry_run as trial
    from pipelines.progress.display import results_only
    from pipelines.render import pyramid as render

    if address is not None or cpus is not None:
        raise UserError("--dry-run tries a few sources on this machine", "leave --address and --cpus out")
    with results_only() as out:
        show = render.searching(as_json)
        found = trial.dry_run(sources, to, options, show, root, follow_links, sidecars=beside)
        render.dry_run(found, as_json, out)
    return 0


@app.command()
def cut(
    pyramid: PyramidArg,
    tier: Annotated[str, typer.Option(help="Encode the clips of this tier that are not encoded yet.")],
    recipe: OwnRecipeOption = None,
    replace_recipe: ReplaceOption = False,
    address: AddressOption = None,
    cpus: CpusOption = None,
    retry: RetryOption = False,
    as_json: JsonOption = False,
) -> int:
    """Encode clips that were measured and not cut; scores that they lack come first."""
    from pipelines.execution import jobs

    return jobs.run_cut(pyramid, tier, jobs.Options(recipe, replace_recipe, address, cpus, retry, as_json))


@app.command()
def caption(
    pyramid: PyramidArg,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Blocks of the recipe's [[captions]]; all by default.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many clips of each block.")] = None,
    address: AddressOption = None,
    cpus: CpusOption = None,
    retry: RetryOption = False,
    as_json: JsonOption = False,
) -> int:
    """Have models caption the clips that lack a caption, as the pyramid's recipe says. Run it again to go on."""
    from pipelines.execution import jobs

    options = jobs.Options(address=address, cpus=cpus, retry=retry, as_json=as_json)
    return jobs.run_caption(pyramid, names or (), limit, options)


@app.command(cls=Answered)
def runs(
    pyramid: PyramidArg,
    run: Annotated[str | None, typer.Argument(help="A run's id, or the beginning of one: show all of it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the runs that have worked on a pyramid or have trained into a folder, or show one."""
    from pipelines.commands.answers import at
    from pipelines.render import runs as render

    render.runs(at(pyramid).runs(run), run is not None, as_json)


@app.command(cls=Answered, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def query(
    context: typer.Context,
    pyramid: PyramidArg,
    tier: Annotated[str | None, typer.Option(help="Only clips of this tier.")] = None,
    order: Annotated[str | None, typer.Option(help="Order by this column; -column for the largest first.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most this many clips, also in a file.")] = None,
    columns: Annotated[str | None, typer.Option(help="Columns, separated by commas.")] = None,
    version: Annotated[str | None, typer.Option(help="A version or tag of the clips to read.")] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="A .jsonl, .csv or .parquet file, or a folder for mp4 files; path or URI."),
    ] = None,
    caption_by: CaptionByOption = None,
    names: Annotated[
        str | None, typer.Option(help="Names of the mp4 files, as '{source}_{shot}_{clip_id}'; {clip_id} by default.")
    ] = None,
    count: Annotated[bool, typer.Option(help="Only the number of clips.")] = False,
    videos: Annotated[bool, typer.Option("--videos", help="Videos instead of clips: what became of each.")] = False,
    status: Annotated[str | None, typer.Option(help="Of --videos: done, rejected or quarantined.")] = None,
    reason: Annotated[str | None, typer.Option(help="Of --videos: only those with this reason.")] = None,
    timeout: Annotated[float | None, typer.Option(min=0, help="Give up after this many seconds.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Query clips by ranges: --aesthetic 4.5.. --motion 1..8 or by value: --source NAME --kind image."""
    from pipelines.commands.answers import at
    from pipelines.commands.pyramid.query import Request
    from pipelines.render import pyramid as render

    request = Request(
        pyramid, tuple(context.args), tier, order, limit, columns, version, output, names, count, timeout, caption_by
    )
    if videos:
        render.videos(at(pyramid).videos(request, status, reason), as_json)
    elif status is not None or reason is not None:
        raise UserError("--status and --reason are of videos", "add --videos")
    else:
        render.query(at(pyramid).query(request), as_json)


@app.command(cls=Answered, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def tiers(
    context: typer.Context,
    pyramid: PyramidArg,
    move: Annotated[
        str | None, typer.Option(metavar="TIER", help="Move thresholds of this tier: --motion 1..8")
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Of --move: take the tier's own range of it away.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show each tier's size and what each filter drops; or move a threshold (nothing is computed again)."""
    from pipelines.commands.answers import at
    from pipelines.commands.pyramid.tiers import Request
    from pipelines.render import pyramid as render

    render.tiers(at(pyramid).tiers(Request(pyramid, move, tuple(context.args), tuple(unset or ()))), as_json)


@app.command()
def sheet(
    pyramid: PyramidArg,
    output: Annotated[str, typer.Option("--output", "-o", help="The PNG file to write; path or URI.")] = "sheet.png",
    tier: Annotated[str | None, typer.Option(help="The tier to judge by; the loosest by default.")] = None,
    clips: Annotated[int, typer.Option(min=1, max=400, help="How many clips to show.")] = 48,
    seed: Annotated[int, typer.Option(help="Which clips, where there are more.")] = 0,
    kind: Annotated[str | None, typer.Option(help="Only clips of this kind: image or video.")] = None,
) -> None:
    """Draw a contact sheet: kept and dropped clips with their scores and reasons."""
    from pipelines.sheet import contact_sheet as drawing

    drawn = drawing.draw(pyramid, output, tier, clips, seed, kind)
    typer.echo(f"{output}: {drawn} clips")


@app.command()
def compare(
    a: Annotated[str, typer.Argument(metavar="A", help="Folder or URI of a pyramid.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Folder or URI of another one, of the same sources.")],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Draw clips that differ into this PNG file; path or URI.")
    ] = None,
    clips: Annotated[int, typer.Option(min=4, max=400, help="How many clips to draw.")] = 48,
    seed: Annotated[int, typer.Option(help="Which clips, where there are more.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Compare two pyramids: sizes, recipes, videos that ended otherwise, clips gained, lost and changed."""
    from pipelines.commands.pyramid.compare import compare
    from pipelines.render import compare as render_compare

    with render_compare.comparing(as_json):
        found = compare(a, b, output, clips, seed)
    render_compare.compare(found, as_json)


@app.command(cls=Answered)
def why(
    pyramid: PyramidArg,
    name: Annotated[str, typer.Argument(help="A video's or clip's id, URI or file name.")],
    as_json: JsonOption = False,
) -> None:
    """Tell the whole history of a video or a clip."""
    from pipelines.commands.answers import at
    from pipelines.render import pyramid as render

    render.why(at(pyramid).why(name), as_json)


@app.command()
def doctor(
    recipe: RecipeOption = "small",
    model: Annotated[str | None, typer.Option("--model", "-m", help="A model file whose weights to look for.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show versions, codecs, models and processors: what is there, what is missing, and how to get it."""
    from pipelines.doctor.report import health
    from pipelines.render import doctor as render_doctor

    found = health(recipe, model)
    render_doctor.doctor(found, as_json)
    if found.wrong is not None:
        raise found.wrong


for room in (looking, review, similar, lifecycle, shards, jobs_on_ray, service, training):
    app.add_typer(room.app)


_RESUMES = ("curate", "cut", "caption", "embed", "forget", "encode", "train", "retry")


def main(arguments: list[str] | None = None, last: bool = False) -> int:
    """Run the command line and give its exit code, as docs/commands.md lists them. What the person can put right and
    what a signal ends is one line on standard error. `last`: see `signals.handled`.
    """
    given = sys.argv[1:] if arguments is None else arguments
    warnings.filterwarnings("ignore", message="lance is not fork-safe")  # nothing of ours forks
    hint = "the same command goes on where it stopped" if _named(given) in _RESUMES else ""
    with signals.handled(hint, last) as ending:
        try:
            code = _command(arguments, given)
        except BaseException:
            if not ending.code or ending.failed:
                raise
            code = 0  # whatever the interruption came to
        return code if ending.failed else ending.code or code


def _command(arguments: list[str] | None, given: Sequence[str]) -> int:
    try:
        logs.configure(os.environ.get(logs.VARIABLE))
        code = app(args=arguments, prog_name="ziggurat", standalone_mode=False)  # an early exit comes back as its code
        return code if isinstance(code, int) else 0
    except UserError as error:
        return _complain(error, given)
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # click's answer to `| head`
            return 128 + signal.SIGPIPE
        raise
    except Exception as error:
        from curation.retry import of_the_user

        if (inner := of_the_user(error)) is not None:
            return _complain(inner, given)
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # a mistake in the arguments, from click
            if not (cause := error.format_message().rstrip(".")):  # type: ignore[attr-defined]
                return int(error.exit_code)  # type: ignore[attr-defined]  # nothing was asked for: the help is shown
            return _complain(UserError(cause, f"see `{_asked(error, given)} --help`"), given)
        raise


def _asked(error: object, given: Sequence[str]) -> str:
    """The command whose arguments are wrong: click does not always say."""
    if (context := getattr(error, "ctx", None)) is not None:
        return context.command_path
    known = getattr(typer.main.get_command(app), "commands", {})
    return f"ziggurat {_named(given)}" if _named(given) in known else "ziggurat"


def _named(given: Sequence[str]) -> str:
    """The command among the arguments: what stands before it are options of `ziggurat` itself."""
    at = 2 if given[:1] == ["--log-format"] else 1 if given and given[0].startswith("--log-format=") else 0
    return given[at] if len(given) > at else ""


def _complain(error: UserError, arguments: Sequence[str]) -> int:
    line = printable(" ".join(str(error).split()))
    if "--json" in arguments:
        with contextlib.suppress(OSError):  # standard output itself may be what is full
            print(json.dumps({"event": "error", "cause": error.cause, "remedy": error.remedy}), flush=True)
    print(f"ziggurat: {line}", file=sys.stderr)
    return 2


def run() -> None:
    """The installed command."""
    code = main(last=True)
    if code > 128 or any(thread.name == "query" for thread in threading.enumerate()):
        # What was interrupted would only complain, and a query that was given up, which still runs in native code,
        # would abort the process.
        with contextlib.suppress(OSError):  # its reader may have gone with the same Ctrl-C
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # nothing is left to be said
    sys.exit(code)


if __name__ == "__main__":
    run()
