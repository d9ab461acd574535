"""Commands around jobs on a Ray cluster, as the command line reads them: `submit`, `jobs`, `logs`, `cancel`, `retry`.
`cli` takes them in; each calls one function of the library.
"""

from __future__ import annotations

from typing import Annotated

import typer

from pipelines.commands.options import AddressOption, CpusOption, JsonOption, PyramidArg

app = typer.Typer()

ServerOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL", help="Where the cluster's dashboard listens: http://HEAD:8265, or RAY_API_SERVER_ADDRESS."
    ),
]
JobArg = Annotated[str, typer.Argument(metavar="JOB", help="The id of a job, as `submit` and `jobs` show it.")]


@app.command(context_settings={"allow_interspersed_args": False})
def submit(
    context: typer.Context,
    command: Annotated[
        list[str],
        typer.Argument(
            metavar="COMMAND ...",
            help="curate, cut, caption, embed, duplicates, clusters, retry, encode or train, with its arguments.",
        ),
    ],
    address: ServerOption = None,
    job: Annotated[str | None, typer.Option("--id", metavar="JOB", help="What the job is called.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check all of it and show it; send nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Have a command run on a Ray cluster as a job. It goes on without this terminal."""
    from pipelines.commands.jobs.submit import Request, submit
    from pipelines.render import jobs as render

    request = Request(tuple(command), address, job, dry_run)
    render.submitted(submit(request, context.find_root().command), as_json)


@app.command()
def jobs(
    pyramid: Annotated[
        str | None, typer.Argument(metavar="PYRAMID", help="Whose records tell; also the folder of a training run.")
    ] = None,
    address: ServerOption = None,
    as_json: JsonOption = False,
) -> None:
    """List jobs: by a pyramid's records (no cluster is needed), by a cluster, or by both."""
    from pipelines.commands.jobs.listing import jobs
    from pipelines.render import jobs as render

    render.jobs(jobs(pyramid, address), as_json)


@app.command()
def logs(
    job: JobArg,
    address: ServerOption = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
) -> None:
    """Show what a job has written."""
    from pipelines.commands.jobs.running import logs
    from pipelines.render import jobs as render

    logs(job, address, follow, render.log)


@app.command()
def cancel(job: JobArg, address: ServerOption = None, as_json: JsonOption = False) -> None:
    """End a job: it keeps what is finished, and the same command goes on from there."""
    from pipelines.commands.jobs.running import cancel
    from pipelines.render import jobs as render

    render.cancelled(cancel(job, address), as_json)


@app.command()
def retry(
    pyramid: PyramidArg,
    reason: Annotated[str, typer.Option(metavar="R", help="A reason, as `query --videos` shows it.")],
    address: AddressOption = None,
    cpus: CpusOption = None,
    as_json: JsonOption = False,
) -> int:
    """Try again exactly the videos that were rejected or quarantined for a reason."""
    from pipelines.execution.jobs import Options, run_retry

    return run_retry(pyramid, reason, Options(address=address, cpus=cpus, retry=True, as_json=as_json))
