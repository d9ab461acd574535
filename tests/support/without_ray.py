"""A job without Ray: the same command in a process of its own, whose stages run there one after the other.

For tests of what a job writes. Starting Ray and its workers costs several times what the job itself does; whether Ray
runs it right, and what a lost worker costs, is tested with Ray (`tests/e2e/test_main_job.py`, `tests/faults`).
"""

from __future__ import annotations

import socket
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import jobs

if TYPE_CHECKING:
    from pipelines.execution import ray_data
    from pipelines.execution.cluster import Resources

_FOR_GOOD = ExitStack()
_CODE = "from tests.support import without_ray; without_ray.main()"


def run(*arguments: str, **environment: str) -> jobs.Finished:
    """`ziggurat` with these arguments."""
    return jobs.finish(jobs.start(*arguments, code=_CODE, cwd=jobs.ROOT, **environment))


def curate(
    videos: Sequence[Path] | Path, pyramid: Path, recipe_path: str, code: int = 0, **environment: str
) -> jobs.Finished:
    """Curate, and see it end with `code`."""
    sources = map(str, [videos] if isinstance(videos, Path) else videos)
    done = run("curate", *sources, "--to", str(pyramid), "--recipe", recipe_path, "--json", **environment)
    assert done.code == code, done.error
    return done


class Here:
    """An object whose methods are called as an actor's are: `object.method.remote(...)`, and the answer is there."""

    def __init__(self, of: Any) -> None:
        self._of = of

    def __getattr__(self, name: str) -> types.SimpleNamespace:
        method: Callable[..., Any] = getattr(self._of, name)
        return types.SimpleNamespace(remote=method)


def main() -> None:
    """Child: the command, with stand-ins where it would ask Ray."""
    install()
    from pipelines import cli

    cli.run()


def install() -> None:
    """Child: put the stand-ins in place, for good; before anything imports Ray."""
    _FOR_GOOD.enter_context(here())


@contextmanager
def here() -> Iterator[None]:
    """Stand-ins where this process would ask Ray, until the block ends."""
    ray: Any = types.ModuleType("ray")
    ray.get = lambda answer, timeout=None: answer
    ray.nodes = lambda: [{"Alive": True, "NodeManagerHostname": socket.gethostname()}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ray", ray)  # whatever else is asked of it fails
        from pipelines import duplicates, encode
        from pipelines.commands.shards import encode as encode_command
        from pipelines.execution import starting, work
        from pipelines.execution.coordinator import Coordinator

        for module in (starting, encode_command):
            patch.setattr(module, "joined", _joined)
        for module in (work, encode):
            patch.setattr(module, "start_coordinator", lambda attempts: Here(Coordinator(attempts)))
            patch.setattr(module, "run", _run)
        patch.setattr(duplicates, "run", _run)
        yield


@contextmanager
def _joined(address: str | None = None, cpus: int | None = None) -> Iterator[Resources]:
    from pipelines.execution.cluster import Resources

    assert address is None
    yield Resources(1.0, 0.0, 1)


def _run(
    items: Iterable[Any],
    specs: list[ray_data.StageSpec],
    coordinator: Any,
    resources: Resources,
    keep: ray_data.Keep,
    attempts: int = 3,
    share: None = None,
) -> Iterator[ray_data.Delivery]:
    """In place of `ray_data.run`: each stage has one worker, in this process."""
    from pipelines.execution import ray_data

    assert not any(spec.python for spec in specs), "another environment's stage needs a worker of Ray's"
    workers = [ray_data._Worker(spec, coordinator, attempts, keep if spec is specs[-1] else None) for spec in specs]
    for number, item in enumerate(items):
        rows = [{"item": item, "key": str(number)}]
        for worker in workers:
            rows = [made for row in rows for made in worker(row)]
        yield from ray_data.delivered(rows)
