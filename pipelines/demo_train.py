"""`make demo-train`: from raw video to a clip out of a network trained on it, on this machine, in some minutes.

    videos, captions -> curate -> freeze -> encode -> train, killed, train again -> weights -> sample -> curves.png

The videos are `demo`'s. The transformer is tiny and is trained for some hundred steps on a handful of clips, behind an
autoencoder whose weights are random: the curves fall and every part is the one of a real run, but no picture is meant.
Run it again: what is there is not made twice.
"""

from __future__ import annotations

import csv
import json
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curation.errors import UserError
from pipelines import cli, demo
from pipelines.config.modelfile import SHIPPED

FOLDER = Path("demo-train")
STEPS = 300
RECIPE = """name = "demo-train"
[clips]
min_s = 1.0
max_s = 2.0
[rules]
min_duration_s = 1.0
[encode]
preset = "veryfast"
[filters.ocr]
enabled = false
[filters.aesthetic]
enabled = false
[[tiers]]
name = "train"
[cut]
tier = "train"
"""
"""Short clips, so that a handful of videos gives a few batches; no filter that needs weights."""

BUCKETS = "side_multiple = 32\n\n[buckets.256px]\n16 = { batch = 2 }\n"
PRESET = f"steps={STEPS}", "validation.samples=2", "validation.every=50", "checkpoints.every=50"
_LOOK_S = 0.2
_DEADLINE_S = 900.0


@dataclass(frozen=True, slots=True)
class Curves:
    """What a run's log says, by step: of a step that was taken again after a kill, the later line counts."""

    loss: dict[int, float] = field(default_factory=dict)
    validation: dict[int, float] = field(default_factory=dict)
    began: tuple[int, ...] = ()

    @classmethod
    def of(cls, log: Path) -> Curves:
        """From `log.jsonl`."""
        loss: dict[int, float] = {}
        validation: dict[int, float] = {}
        began: list[int] = []
        for line in map(json.loads, log.read_text().splitlines()):
            if line["kind"] == "begin":
                began.append(line["step"])
            if line.get("loss") is not None:
                loss[line["step"]] = line["loss"]
            if line.get("validation/loss") is not None:
                validation[line["step"]] = line["validation/loss"]
        return cls(loss, validation, tuple(began))


def main() -> int:
    """Run the commands that a person would, kill the training once, and say where to look."""
    try:
        return _whole(FOLDER)
    except (UserError, OSError) as error:
        print(f"demo-train: {error}", file=sys.stderr)
        return 2


def _whole(folder: Path) -> int:
    pyramid, run, weights = folder / "pyramid", folder / "run", folder / "network.safetensors"
    sources = _sources(folder)
    training = _training(folder)
    if _ran("curate", sources, "--to", pyramid, "--recipe", folder / "recipe.toml"):
        return 2
    frozen = (pyramid / "manifests" / "demo.json").exists()
    buckets = folder / "buckets.toml"
    if not frozen and _ran("freeze", pyramid, "--name", "demo", "--tier", "train", "--preset", buckets):
        return 2
    if _ran("encode", f"{pyramid}#demo", "--model", "tiny", "--to", folder / "latents"):
        return 2
    _killed(training, run)
    if _ran(*training):
        return 2
    if _ran("weights", run, "-o", weights, "--dtype", "float32"):
        return 2
    asked = ("a short film", "--model", _model(folder, weights), "--to", folder / "samples")
    if _ran("sample", *asked, "--size", "320x192", "--frames", 16, "--steps", 20, "--guidance", 1):
        return 2
    curves = Curves.of(run / "log.jsonl")
    draw(curves, folder / "curves.png")
    print(_ending(folder, curves))
    return 0


def _training(folder: Path) -> tuple[Any, ...]:
    to = ("--latents", folder / "latents", "--model", "tiny", "--preset", "tiny", "--to", folder / "run")
    changes = (part for change in PRESET for part in ("--set", change))
    return ("train", f"{folder / 'pyramid'}#demo", *to, *changes)


def _ran(*arguments: Any) -> int:
    command = list(map(str, arguments))
    print(f"\n$ ziggurat {shlex.join(command)}", flush=True)
    return cli.main(command)


def _sources(folder: Path) -> Path:
    """The demo's videos with a caption each, as a list; and the files that the commands take."""
    videos = demo.gather(folder)
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "buckets.toml").write_text(BUCKETS)
    place = folder / "captions.csv"
    with place.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("path", "caption"))
        for video in sorted(videos.glob("*.mp4")):
            rows.writerow((video.absolute(), f"a short film, {video.stem.replace('_', ' ')}"))
    return place


def _killed(training: tuple[Any, ...], run: Path) -> None:
    """Train until the first checkpoint is whole, and kill the process, as a machine that goes down does; nothing where
    there is a checkpoint already.
    """
    checkpoints = run / "checkpoints"
    if _whole_ones(checkpoints):
        return
    command = list(map(str, training))
    print(f"\n$ ziggurat {shlex.join(command)}   # killed after its first checkpoint", flush=True)
    whole = [sys.executable, "-m", "pipelines.cli", *command]
    process = subprocess.Popen(whole, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ends = time.monotonic() + _DEADLINE_S
    try:
        while process.poll() is None and not _whole_ones(checkpoints) and time.monotonic() < ends:
            time.sleep(_LOOK_S)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
    if not _whole_ones(checkpoints):
        raise UserError("the training has saved no checkpoint", "run the command above to see what it says")


def _whole_ones(checkpoints: Path) -> list[Path]:
    return [path for path in checkpoints.glob("step-*") if path.suffix != ".part"]


def _model(folder: Path, weights: Path) -> Path:
    """The tiny model with the trained network in it."""
    text = (SHIPPED / "tiny.toml").read_text()
    place = folder / "model.toml"
    found = 'preset = "tiny_embedded"\n'
    assert text.count(found) == 1, "the shipped model has its preset in a line of its own"
    path = json.dumps(str(weights.absolute()))
    place.write_text(text.replace(found, f"{found}path = {path}\n").replace('name = "tiny"', 'name = "demo-train"'))
    return place


def draw(curves: Curves, place: Path) -> None:
    """Training and validation loss by step, and where the run went on after a kill, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(list(curves.loss), list(curves.loss.values()), color="0.7", linewidth=0.8, label="training")
    steps = sorted(curves.validation)
    axes.plot(steps, [curves.validation[step] for step in steps], color="C0", marker="o", label="validation")
    for step in curves.began:
        if step:
            axes.axvline(step, color="C3", linestyle=":", label="went on after a kill")
    axes.set(xlabel="step", ylabel="loss", ylim=(0, None))
    axes.legend()
    FigureCanvasAgg(figure).print_png(str(place))


def _ending(folder: Path, curves: Curves) -> str:
    first, last = (curves.validation[step] for step in (min(curves.validation), max(curves.validation)))
    prefix = demo.command_prefix()
    return f"""
Validation loss {first:.3f} -> {last:.3f} in {max(curves.loss)} steps, through one kill.
Look at {folder}/curves.png and {folder}/samples.

For a real run (docs/training.md):
  {prefix} curate YOUR_VIDEOS --to PYRAMID --recipe opensora2        captions in the list, or none
  {prefix} freeze PYRAMID --name NAME --tier 256px --preset stage1
  {prefix} encode PYRAMID#NAME --model MODEL.toml --to LATENTS       with weights in the model file
  torchrun --nproc-per-node 8 --shutdown-timeout 900 -m pipelines.cli train PYRAMID#NAME \\
      --latents LATENTS --model MODEL.toml --preset stage1 --to RUN
  {prefix} cost --frames 129 --size 256x256                          what it takes"""


if __name__ == "__main__":
    sys.exit(main())
