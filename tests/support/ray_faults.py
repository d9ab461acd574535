"""Faults in the workers of a run on a cluster of two nodes: `python -m tests.support.ray_faults FOLDER KIND...`

One cluster for all kinds. Each kind is a run of its own, into FOLDER/KIND, that the fault meets in the midst; what came
of it goes to FOLDER/KIND.json. A fault fires once: the file FOLDER/KIND.fired holds a line for each time.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from training.callbacks.base import Report
from training.trainer import Progress

KINDS = (
    *("none", "killed", "stopped", "slowed", "collective", "nan", "lying", "sly", "grown", "wrong", "unshared"),
    "lost",
)
"""`sly`: as `lying`, and the checks of a node find nothing. `grown`: no fault, a node more comes. `lost`: a node goes,
and takes its place in the cluster along, so it comes last."""
WITH_SPARE = ("lying", "sly", "grown")
GROWN_PER_STEP = 6
STEPS, SAVED, AT, SLOW_FROM = 16, 4, 6, 2
"""The fault comes at step 6 of 16, counted from 0; the checkpoint before it is that of four steps. A rank is told to be
slow after ten steps."""
RANK = 1
SILENCE_S = 20.0
"""After which a stopped rank is taken for lost."""
FAULT, LIAR = "ZIGGURAT_TEST_FAULT", "ZIGGURAT_TEST_LIAR"


def work(given: Mapping[str, Any]) -> Any:
    """What Ray Train calls in the place of the worker's own function."""
    from pipelines.training import worker

    place = Path(given["fault"])
    with injected(place.name, place.with_suffix(".fired")):
        return worker.work(given)


@contextmanager
def injected(kind: str, fired: Path) -> Iterator[None]:
    """The fault, in this process."""
    from training import trainer

    real = trainer._computed

    def computed(run: Any, step: int, *rest: Any, **more: Any) -> Any:
        mine = step >= AT and run.engine.rank == RANK
        if step == AT:
            _wait_for(fired.with_suffix("") / "checkpoints" / f"step-{SAVED:010}")
        if kind in ("lying", "sly"):
            if step >= AT and os.environ.get(LIAR):
                fires(fired, again=True)
                return _with_lies(lambda: real(run, step, *rest, **more))
            return real(run, step, *rest, **more)
        if kind == "lost":
            time.sleep(0.3)  # until the driver has taken the node away
        if kind == "grown" and run.engine.ranks == 2:
            time.sleep(1.5)  # until there is room for another
        if kind == "slowed":
            late = step >= SLOW_FROM and run.engine.rank == RANK
            if late:
                fires(fired, again=True)
            with _slowed(run) if late else nullcontext():
                return real(run, step, *rest, **more)
        if mine and kind in FAULTS and step == AT and fires(fired):
            return FAULTS[kind](run, lambda: real(run, step, *rest, **more))
        return real(run, step, *rest, **more)

    trainer._computed = computed
    try:
        yield
    finally:
        trainer._computed = real


def _wait_for(checkpoint: Path) -> None:
    """Saving goes on beside the steps, which take no time here: a fault that came before its end would cost more."""
    ends = time.monotonic() + 120
    while not checkpoint.is_dir() and time.monotonic() < ends:
        time.sleep(0.02)


def fires(fired: Path, again: bool = False) -> bool:
    """Whether it is to: once, whatever processes ask."""
    try:
        with fired.open("a" if again else "x") as file:
            file.write(f"{os.getpid()} {time.time()}\n")
    except FileExistsError:
        return False
    return True


def _signalled(number: int) -> Callable[[Any, Callable[[], Any]], Any]:
    def fault(run: Any, go: Callable[[], Any]) -> Any:
        os.kill(os.getpid(), number)
        return go()

    return fault


def _in_a_collective(run: Any, go: Callable[[], Any]) -> Any:
    """This rank fails where the others wait for its sums."""

    def fails(values: Any) -> Any:
        raise RuntimeError("a collective has failed")

    run.engine.agree = fails
    return go()


def _not_a_number(run: Any, go: Callable[[], Any]) -> Any:
    """The gradients of this rank, in this one pass."""
    backward = run.engine.backward
    run.engine.backward = lambda loss: backward(loss * float("nan"))
    try:
        return go()
    finally:
        del run.engine.backward


def _user_error(run: Any, go: Callable[[], Any]) -> Any:
    from curation.errors import UserError

    raise UserError("a latent is wrong", "encode again")


FAULTS: Mapping[str, Callable[[Any, Callable[[], Any]], Any]] = {
    "killed": _signalled(signal.SIGKILL),
    "stopped": _signalled(signal.SIGSTOP),
    "collective": _in_a_collective,
    "nan": _not_a_number,
    "wrong": _user_error,
}


def _with_lies(go: Callable[[], Any]) -> Any:
    """Every product of matrices on this node is wrong."""
    import torch

    linear = torch.nn.Linear.forward
    torch.nn.Linear.forward = lambda *given: linear(*given) * float("nan")  # type: ignore[method-assign]
    try:
        return go()
    finally:
        torch.nn.Linear.forward = linear


@contextmanager
def _slowed(run: Any) -> Iterator[None]:
    loss = run.method.loss

    def late(*arguments: Any) -> Any:
        time.sleep(0.5)
        return loss(*arguments)

    object.__setattr__(run.method, "loss", late)
    try:
        yield
    finally:
        object.__delattr__(run.method, "loss")


def alone_on_node(gpu: bool) -> Iterator[list[str]]:
    """The checks of a node, whose matmul lies where it is the liar's."""
    import torch

    from pipelines.training import nodes

    if not os.environ.get(LIAR):
        yield from nodes.alone_on_node(gpu)
        return
    product = torch.Tensor.__matmul__
    torch.Tensor.__matmul__ = lambda a, b: product(a, b) + 1  # type: ignore[method-assign]
    try:
        yield from nodes.alone_on_node(gpu)
    finally:
        torch.Tensor.__matmul__ = product  # type: ignore[method-assign]


def missed(paths: list[Path]) -> list[Path]:
    """The liar's node sees none of the run's folders."""
    from pipelines.training import shared

    return paths if os.environ.get(LIAR) else shared.missed(paths)


@dataclass
class Kept:
    """A watch that keeps what it is told. `times`: of each step, as it was told, its number and the time."""

    notes: list[str] = field(default_factory=list)
    began: list[int] = field(default_factory=list)
    times: list[tuple[int, float]] = field(default_factory=list)
    at: int = 0

    def note(self, text: str) -> None:
        self.notes.append(text)

    def begin(self, progress: Progress, steps: int, validation: float | None, measure: str) -> None:
        self.began.append(progress.step)

    def step(self, progress: Progress, report: Report) -> None:
        self.at = progress.step
        self.times.append((progress.step, time.time()))


def run(kind: str, folder: Path, cluster: Any) -> dict[str, Any]:
    """A run that the fault meets. The spare node comes once the workers have their places."""
    import ray

    from curation.errors import UserError
    from pipelines.commands.training.train import Request, train
    from pipelines.training import group, nodes, shared
    from pipelines.training.timeouts import Timeouts
    from tests.support import ray_faults

    timeouts = Timeouts(poll=0.5, health=120.0, start=60.0, shutdown=3, silence=SILENCE_S, resize=5.0)
    group.work = ray_faults.work  # type: ignore[assignment]  # by its module's name, which workers import
    real = nodes.alone_on_node
    if kind == "lying":
        nodes.alone_on_node = ray_faults.alone_on_node
    sees = shared.missed
    if kind == "unshared":
        shared.missed = ray_faults.missed  # type: ignore[assignment]
    driver_given = group.Group.run

    def with_fault(self: Any, restarts: int) -> Any:
        object.__setattr__(self, "given", {**self.given, "fault": str(folder / kind)})
        return driver_given(self, restarts)

    group.Group.run = with_fault  # type: ignore[method-assign]
    toy, watch = folder / "toy", Kept()
    changes = ["validation.samples=3", "validation.every=8", f"checkpoints.every={SAVED}"]
    if kind == "grown":
        changes.append(f"batches.per_step={GROWN_PER_STEP}")
    request = Request(
        f"{toy / 'pyramid'}#toy",
        str(toy / "latents"),
        str(toy / "model.toml"),
        "tiny",
        str(folder / kind),
        STEPS,
        changes,
        "ddp",
        workers=3 if kind == "grown" else 2,
        least={"lost": 1, "grown": 2}.get(kind),
        address=cluster.address,
    )
    found: dict[str, Any] = {}

    def go() -> None:
        try:
            found["trained"] = asdict(train(replace(request, timeouts=timeouts), watch))
        except UserError as error:
            found["refused"] = str(error)
        except BaseException as error:
            found["failed"] = f"{type(error).__name__}: {error}"

    thread, spare = threading.Thread(target=go), None
    thread.start()
    while thread.is_alive():
        thread.join(0.2)
        if kind in WITH_SPARE and watch.began and spare is None:  # nodes are added in the main thread alone
            spare = cluster.add_node(num_cpus=1, object_store_memory=100 << 20, node_ip_address="127.0.0.1")
        if kind == "lost" and watch.at >= AT and fires(folder / "lost.fired"):
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    nodes.alone_on_node, group.Group.run, shared.missed = real, driver_given, sees  # type: ignore[method-assign]
    if spare is not None:
        cluster.remove_node(spare)
    nodes_left = sum(1 for node in ray.nodes() if node["Alive"])
    return {**found, "notes": watch.notes, "began": watch.began, "times": watch.times, "nodes": nodes_left}


def main(folder: Path, kinds: list[str]) -> None:
    os.environ.update(RAY_AUTH_MODE="disabled", GLOO_SOCKET_IFNAME="lo", RAY_worker_niceness="0")
    import ray
    from ray._private import services
    from ray.cluster_utils import Cluster

    from tests.support import encoded
    from tests.support.shard import shard

    services.resolve_ip_for_localhost = lambda host: host  # else 127.0.0.1 becomes the machine's own address
    shard(folder / "toy", {encoded.CLIP: 13, encoded.SHORT: 8, encoded.IMAGE: 3})
    local = {"node_ip_address": "127.0.0.1", "object_store_memory": 100 << 20, "num_cpus": 1}
    cluster = Cluster(initialize_head=True, head_node_args={**local, "include_dashboard": False})
    cluster.add_node(**local, env_vars={LIAR: "1"})
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False, _node_ip_address="127.0.0.1")
    try:
        for kind in kinds:
            started = time.monotonic()
            told = run(kind, folder, cluster)
            told["seconds"] = round(time.monotonic() - started, 1)
            (folder / f"{kind}.json").write_text(json.dumps(told, indent=1))
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
