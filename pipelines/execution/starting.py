"""The start of a job: its set-up found good, Ray joined. Between a command's arguments (`jobs`) and `curate`.

Nothing is made before it is through, so that a run which cannot start leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Protocol

from pipelines.config.recipe import Recipe
from pipelines.doctor import checks
from pipelines.execution.cluster import Resources, joined


class Tells(Protocol):
    """What tells a person what takes its time; see `progress.Display`."""

    def searching(self, what: str) -> AbstractContextManager[None]: ...


@contextmanager
def started(
    display: Tells,
    recipe: Recipe,
    machine: Callable[[Recipe], Sequence[checks.Check]],
    places: Sequence[checks.Check],
    address: str | None,
    cpus: int | None,
) -> Iterator[tuple[Resources, list[str]]]:
    """Ray, for as long as the block lasts, and the notices of the checks. Raises the `UserError` of the first failure.

    `machine` is checked where the stages will run: here before a local Ray starts, on the nodes of a cluster. This
    machine may lack what those have. `places` are checked here.
    """
    with display.searching("checking the set-up"):
        notices = checks.pass_all(places if address else (*machine(recipe), *places))
    with ExitStack() as stack:
        with display.searching(f"joining the Ray cluster at {address}" if address else "starting Ray"):
            resources = stack.enter_context(joined(address, cpus))
            if address:
                notices += checks.of_nodes(machine, recipe)
        yield resources, notices
