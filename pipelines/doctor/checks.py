"""Whether a set-up can do what the recipe asks: judged before the first video, so that no video is blamed for it.

`curate`, `cut` and `doctor` make the same checks. Those of the machine (detector, decoder's process, encoder, filters)
are made where the stages will run: here for a local Ray, on each node of a cluster (`of_nodes`) for `--address`. Those
of the places (the pyramid can be written, the staging folder has room) are made here. A check that fails raises the
`UserError` that the run ends with; nothing has been made by then, and no pyramid.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curation.errors import UserError
from curation.inputs import uris
from curation.inputs.staging import RESERVE
from curation.media.plan import Encode, MediaPlan, ShotPlan
from curation.media.sandbox.cell import confine
from curation.media.shots import table
from curation.pyramid.storage import about
from curation.retry import explained
from pipelines.config import captions
from pipelines.config.filters import ready
from pipelines.config.recipe import Recipe
from pipelines.doctor import packages, selftest
from pipelines.doctor.hardware import gpus
from pipelines.embedding import blocks, trial
from pipelines.embedding.blocks import Embedding

NODE_S = 120.0
"""How long a node of a cluster may take for its checks, the start of a worker included."""

_SOME_GPU = 0.001
"""Ray hides the GPUs from a task that asks for none of one."""

_LEAST_STAGING = 16 << 20
"""Local videos are linked and not copied: staging takes next to nothing for them."""


@dataclass(frozen=True, slots=True)
class Passed:
    """What holds, in a line; `notice`: what is less than it could be, for the person who starts the run."""

    text: str
    notice: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """`run` gives what holds, or raises the `UserError` that says what does not."""

    name: str
    run: Callable[[], Passed]


def of_machine(recipe: Recipe) -> tuple[Check, ...]:
    """What the stages of the recipe need of the machine that they run on."""
    encode = recipe.encoding if recipe.cut.tier is not None else None
    checks = [Check("shot detector", lambda: _detector(recipe.plan.shots))]
    if encode is not None:
        checks.append(Check("encoder", lambda: _encoders(encode)))
    return (
        *checks,
        Check("confinement", lambda: _confinement(recipe)),
        Check("decoder's process", lambda: _decoder(recipe, recipe.plan, encode)),
        Check("filters", lambda: _filters(recipe)),
        *of_captions(recipe),
        *of_spaces(recipe),
    )


def of_filling(recipe: Recipe) -> tuple[Check, ...]:
    """The same for `cut` and `--fill`, which encode whatever the recipe says of cutting, and look for no shots.

    So the recipe's detector may be missing here: the film of the self-test goes through the default one.
    """
    encode, plan = recipe.encoding, replace(recipe.plan, shots=ShotPlan())
    return (
        Check("encoder", lambda: _encoders(encode)),
        Check("confinement", lambda: _confinement(recipe)),
        Check("decoder's process", lambda: _decoder(recipe, plan, encode)),
        Check("filters", lambda: _filters(recipe)),
    )


def of_fill(recipe: Recipe) -> tuple[Check, ...]:
    """The same for `--fill`, which has captions and vectors made too."""
    return (*of_filling(recipe), *of_captions(recipe), *of_spaces(recipe))


def of_captions(recipe: Recipe) -> tuple[Check, ...]:
    """What the recipe's captions need of a machine: keys, and endpoints that answer and know their model."""
    if not recipe.captions:
        return ()
    return (Check("captions", lambda: Passed("; ".join(map(captions.check, recipe.captions)))),)


def of_spaces(recipe: Recipe) -> tuple[Check, ...]:
    """What the vectors of the recipe's spaces need of a machine."""
    return (Check("embeddings", lambda: _embedders(blocks.listed(recipe))),) if recipe.embeddings else ()


def of_embeddings(wanted: Sequence[Embedding]) -> tuple[Check, ...]:
    """The same for some spaces."""
    return (Check("embeddings", lambda: _embedders(wanted)),)


def of_places(pyramid: str, sources: Sequence[str]) -> tuple[Check, ...]:
    """What a run needs of the places that it writes to."""
    remote = any(uris.scheme(source) in uris.SCHEMES for source in sources)
    return (
        Check("pyramid", lambda: Passed(writable(pyramid))),
        Check("staging folder", lambda: _staging(RESERVE if remote else _LEAST_STAGING)),
    )


def pass_all(checks: Sequence[Check]) -> list[str]:
    """Make the checks in their order and give their notices; the first one that fails raises."""
    return [passed.notice for check in checks if (passed := check.run()).notice is not None]


def of_nodes(checks: Callable[[Recipe], Sequence[Check]], recipe: Recipe) -> list[str]:
    """Make checks on every node of the cluster that was joined, at the same time; failure and notices name their node.

    They reserve no processor, so that a busy cluster does not make them wait; where the recipe needs a GPU they run on
    the nodes that have one, and see it as a stage will.
    """
    import ray
    from ray.exceptions import GetTimeoutError, RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(_on_node)
    asked: dict[str, Any] = {}
    gpu = {"num_gpus": _SOME_GPU} if recipe.needs_gpu else {}
    for node in ray.nodes():
        if node["Alive"] and node["Resources"].get("GPU" if gpu else "CPU"):
            place = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            options = task.options(num_cpus=0, max_retries=0, scheduling_strategy=place, **gpu)
            asked[node["NodeManagerAddress"]] = options.remote(checks, recipe)
    notices: list[str] = []
    if not asked:
        kind = "GPU" if gpu else "CPU"
        notices.append(f"no node of the cluster has a {kind} yet, so no node's set-up was checked before the start")
    for address, answer in asked.items():
        said: list[str] = []
        try:
            failed, said = ray.get(answer, timeout=NODE_S)
        except GetTimeoutError:
            failed = (f"no answer to the checks within {NODE_S:.0f} s", "look at the node with `ray status`")
        except RayError as error:
            last = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
            failed = (f"the checks do not run ({last.strip()})", "install the same ziggurat and Python on every node")
        if failed is not None:
            raise UserError(f"node {address}: {failed[0]}", failed[1])
        notices += [f"node {address}: {notice}" for notice in said]
    return notices


def _on_node(checks: Callable[[Recipe], Sequence[Check]], recipe: Recipe) -> tuple[tuple[str, str] | None, list[str]]:
    """Cause and remedy of the first check that fails, and notices; as data, for Ray wraps exceptions in its words."""
    try:
        return None, pass_all(checks(recipe))
    except UserError as error:
        return (error.cause, error.remedy), []


def _detector(plan: ShotPlan) -> Passed:
    table.check(plan.detector, plan.options)
    return Passed(plan.detector)


def _confinement(recipe: Recipe) -> Passed:
    """What the kernel offers. What a decoder's process makes of it only that process can say: see `_decoder`."""
    level = confine.level(recipe.needs_gpu)
    confine.require(level, recipe.limits.confine)
    return Passed(f"this kernel offers {level.text}")


def _encoders(encode: Encode) -> Passed:
    return Passed(" and ".join(map(packages.encoder, encode.encoders)))


def _decoder(recipe: Recipe, plan: MediaPlan, encode: Encode | None) -> Passed:
    tried = selftest.decoder(plan, encode, recipe.limits)
    lacks = None if tried.level.holds else f"the decoder's process is not fully confined: {tried.level.text}"
    return Passed(tried.text, lacks)


def _embedders(wanted: Sequence[Embedding]) -> Passed:
    """Each is made once and given a thing to embed; what wants a GPU is tried where one is."""
    tried = [block for block in wanted if not block.gpus or gpus()]
    for block in tried:
        trial.embedded(block)
    return Passed(", ".join(block.by for block in tried) or "none")


def _filters(recipe: Recipe) -> Passed:
    return Passed(", ".join(filter_.name for filter_ in ready(recipe) if filter_.make is not None) or "none")


def writable(pyramid: str) -> str:
    """Try to write beside the pyramid, or where it will be; what was tried is removed again."""
    place = about.normalize(pyramid)
    if about.is_remote(place):
        return f"{place} is tried when it is opened"
    folder = next(path for path in (Path(place), *Path(place).parents) if path.exists())
    what = f"cannot write to {place}"
    try:
        with tempfile.NamedTemporaryFile(prefix=".ziggurat-", dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise explained(error, what) or UserError(
            f"{what} ({error.strerror or error})", "check that it is a folder you may write to"
        ) from error
    return place


def _staging(least: int) -> Passed:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if free < least:
        have, need = free >> 20, least >> 20
        raise UserError(
            f"the staging folder {folder} has {have} MB free, and {need} are needed for these sources",
            "free space there, or set TMPDIR to a folder on a larger disk",
        )
    return Passed(f"{folder}, {free >> 20} MB free")
