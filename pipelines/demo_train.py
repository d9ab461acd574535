"""`make demo-train`: from raw video to a clip out of a network trained on it, on this machine, in some minutes.

    videos, captions -> curate -> freeze -> train the autoencoder -> weights
                     -> freeze -> encode with it -> train, killed, train again -> weights -> sample -> curves.png

The videos are `demo`'s. Autoencoder and transformer are tiny and are trained for some hundred steps on a handful of
clips: the curves show that both learn and every part is the one of a real run, but a picture of it is a blur.
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
CODER_STEPS, STEPS = 100, 300
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

BUCKETS = {
    "demo": "side_multiple = 32\n\n[buckets.256px]\n16 = { batch = 2 }\n",
    "small": "side_multiple = 32\n\n[buckets.64px]\n4 = { batch = 1 }\n",
}
"""Of the transformer's clips, and of the autoencoder's: convolutions that have learnt on small ones work on large."""
CODER_PRESET = f"steps={CODER_STEPS}", "validation.samples=4", "validation.every=50"
PRESET = f"steps={STEPS}", "validation.samples=2", "validation.every=50", "checkpoints.every=50"
PSNR, WIDTH = "validation/psnr", "validation/latent_std"
_LOOK_S = 0.2
_DEADLINE_S = 900.0


@dataclass(frozen=True, slots=True)
class Curves:
    """What a run's log says, by step: of a step that was taken again after a kill, the later line counts. `validation`:
    what it measures; `last`: the newest line's numbers that a validation has."""

    loss: dict[int, float] = field(default_factory=dict)
    validation: dict[int, float] = field(default_factory=dict)
    began: tuple[int, ...] = ()
    last: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, log: Path, measure: str = "validation/loss", loss_name: str = "loss") -> Curves:
        """From `log.jsonl`."""
        last: dict[str, float] = {}
        loss: dict[int, float] = {}
        validation: dict[int, float] = {}
        began: list[int] = []
        for line in map(json.loads, log.read_text().splitlines()):
            if line["kind"] == "begin":
                began.append(line["step"])
            if line.get(loss_name) is not None:
                loss[line["step"]] = line[loss_name]
            if line.get(measure) is not None:
                validation[line["step"]] = line[measure]
                last = {name: value for name, value in line.items() if name.startswith("validation/")}
        return cls(loss, validation, tuple(began), last)

    @property
    def ends(self) -> tuple[float, float]:
        """The first validation and the last."""
        return self.validation[min(self.validation)], self.validation[max(self.validation)]


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
    if _ran("curate", sources, "--to", pyramid, "--recipe", folder / "recipe.toml"):
        return 2
    for name in BUCKETS:
        frozen = (pyramid / "manifests" / f"{name}.json").exists()
        buckets = folder / f"{name}.toml"
        if not frozen and _ran("freeze", pyramid, "--name", name, "--tier", "train", "--preset", buckets):
            return 2
    coder = _coder(folder)
    if coder is None:
        return 2
    model = _model(folder, "model.toml", coder)
    if _ran("encode", f"{pyramid}#demo", "--model", model, "--to", folder / "latents"):
        return 2
    training = _training(folder, model)
    _killed(training, run)
    if _ran(*training):
        return 2
    if not weights.exists() and _ran("weights", run, "-o", weights, "--dtype", "float32"):
        return 2
    trained = _model(folder, "trained.toml", coder, weights)
    asked = ("a short film", "--model", trained, "--to", folder / "samples")
    if _ran("sample", *asked, "--size", "320x192", "--frames", 16, "--steps", 20, "--guidance", 1):
        return 2
    coded = Curves.of(folder / "autoencoder" / "log.jsonl", PSNR, "part/l1")
    curves = Curves.of(run / "log.jsonl")
    draw(coded, curves, folder / "curves.png")
    print(_ending(folder, coded, curves))
    return 0


def _coder(folder: Path) -> tuple[Path, float] | None:
    """The trained autoencoder's weights, and what its latents are to be divided by; None where a command failed."""
    run, weights = folder / "autoencoder", folder / "autoencoder.safetensors"
    changes = (part for change in CODER_PRESET for part in ("--set", change))
    if not weights.exists():
        if _ran("train", f"{folder / 'pyramid'}#small", "--preset", "tiny_autoencoder", "--to", run, *changes):
            return None
        if _ran("weights", run, "-o", weights):
            return None
    return weights, round(Curves.of(run / "log.jsonl", PSNR).last[WIDTH], 3)


def _training(folder: Path, model: Path) -> tuple[Any, ...]:
    to = ("--latents", folder / "latents", "--model", model, "--preset", "tiny", "--to", folder / "run")
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
    for name, buckets in BUCKETS.items():
        (folder / f"{name}.toml").write_text(buckets)
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


def _model(folder: Path, name: str, coder: tuple[Path, float], network: Path | None = None) -> Path:
    """The tiny model as a file of its own, with the trained autoencoder and its latents' scale in it, and with the
    trained network."""
    text = (SHIPPED / "tiny.toml").read_text().replace('name = "tiny"', 'name = "demo-train"')
    weights, std = coder
    text = _after(text, 'preset = "tiny"\n', f"{_path(weights)}latent_std = {std}\n")
    if network is not None:
        text = _after(text, 'preset = "tiny_embedded"\n', _path(network))
    place = folder / name
    place.write_text(text)
    return place


def _after(text: str, line: str, more: str) -> str:
    assert text.count(line) == 1, "the shipped model has its presets in lines of their own"
    return text.replace(line, line + more)


def _path(weights: Path) -> str:
    return f"path = {json.dumps(str(weights.absolute()))}\n"


def draw(coded: Curves, curves: Curves, place: Path) -> None:
    """Both runs by step, the autoencoder's on the left, as a PNG; and where a run went on after a kill."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, one, learnt in ((left, coded, "L1"), (right, curves, "loss")):
        axes.plot(list(one.loss), list(one.loss.values()), color="0.7", linewidth=0.8, label="training")
        axes.set(xlabel="step", ylabel=learnt, ylim=(0, None))
        for step in one.began:
            if step:
                axes.axvline(step, color="C3", linestyle=":", label="went on after a kill")
    beside = left.twinx()
    beside.set_ylabel("PSNR of held-out clips, dB")
    for axes, one in ((beside, coded), (right, curves)):
        steps = sorted(one.validation)
        axes.plot(steps, [one.validation[step] for step in steps], color="C0", marker="o", label="validation")
    left.set_title("autoencoder")
    right.set_title("transformer")
    left.legend(loc="lower center")
    beside.legend(loc="lower right")
    right.legend(loc="upper right")
    FigureCanvasAgg(figure).print_png(str(place))


def _ending(folder: Path, coded: Curves, curves: Curves) -> str:
    prefix = demo.command_prefix()
    (worse, better), (first, last) = coded.ends, curves.ends
    return f"""
Autoencoder: PSNR of held-out clips {worse:.1f} -> {better:.1f} dB in {max(coded.loss)} steps.
Transformer: validation loss {first:.3f} -> {last:.3f} in {max(curves.loss)} steps, through one kill.
Look at {folder}/curves.png and {folder}/samples.

For a real run (docs/training.md; the autoencoder: docs/autoencoder.md, or take released weights):
  {prefix} curate YOUR_VIDEOS --to PYRAMID --recipe opensora2        captions: in the list, or docs/captions.md
  {prefix} freeze PYRAMID --name NAME --tier 256px --preset stage1
  {prefix} encode PYRAMID#NAME --model MODEL.toml --to LATENTS       with weights in the model file
  torchrun --nproc-per-node 8 --shutdown-timeout 900 -m pipelines.cli train PYRAMID#NAME \\
      --latents LATENTS --model MODEL.toml --preset stage1 --to RUN
  {prefix} cost --frames 129 --size 256x256                          what it takes"""


if __name__ == "__main__":
    sys.exit(main())
