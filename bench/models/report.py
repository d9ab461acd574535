"""The Markdown of `bench.models`: one table a comparison, a row for everything that was planned.

What was not measured says so and why: no such device, out of memory, out of time, or the error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from bench.models import plan
from training.cost.formulas import GPUS, Gpu, mfu

Runs = Mapping[tuple[str, str, str, str], Mapping[str, Any]]
"""By device, comparison, network and work."""

NOT_MEASURED = "not measured"
PRECISION = {"cpu": "float32, one thread, CPU-seconds", "cuda": "bfloat16"}


def markdown(report: Mapping[str, Any]) -> str:
    """The report as a part of the performance page."""
    runs = {(run["device"], run["what"], run["variant"], run["work"]): run for run in report["runs"]}
    parts = (_head(report), _blocks(report, runs), _autoencoders(runs), _sampling(runs))
    return "\n".join([line for part in parts for line in part]).rstrip()


def _head(report: Mapping[str, Any]) -> Iterator[str]:
    machine, (before, after) = report["machine"], report["machine"]["load"]
    yield (
        f"{machine['cpu']}, {machine['cores']} cores, load {before:.1f} before and {after:.1f} after, {report['made']}."
    )
    for device, about in report["devices"].items():
        if "missing" in about:
            yield f"{device}: {NOT_MEASURED}, {about['missing']}."
        else:
            name, kernel = about["name"], about["attention"]
            yield f"{device}: {name}, {PRECISION[device]}, torch {about['torch']}; attention by `{kernel}`."
    yield ""
    yield (
        "Medians of up to three runs after a first one. On a CPU the networks of one comparison take turns. Memory is "
        "what a run, its input with it, adds at its peak to the weights. Weights, pixels and texts are random."
    )
    yield ""


def _blocks(report: Mapping[str, Any], runs: Runs) -> Iterator[str]:
    yield "### Blocks of the transformer, forward and backward"
    yield ""
    shapes = ", ".join(f"{device} {config['hidden_size']} wide" for device, config in plan.NETWORK.items())
    yield (
        f"Two double and four single blocks with heads of 128: {shapes}. *Plain torch* is the same network in plain "
        "library calls, nothing of `training.ops` in it. Tokens: samples x (video + text). Ratios are to plain "
        "torch, eager: below 1 is faster, or smaller. *mfu_dit* is by the blocks' FLOPs (`training.cost.formulas`)."
    )
    yield ""
    yield "| device | tokens | network | s a step | ratio | memory, MB | ratio | first step, s | TFLOP/s | mfu_dit |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for device, lengths in plan.LENGTHS.items():
        gpu = _gpu(report["devices"][device].get("name", ""))
        for length in lengths:
            for variant in plan.VARIANTS[plan.BLOCKS]:
                run = runs.get((device, plan.BLOCKS, variant, length.name))
                plain = runs.get((device, plan.BLOCKS, plan.PLAIN, length.name))
                flops = plan.train_flops(device, length)
                cells = (*_against(run, plain), _first(run), *_speed(run, flops, gpu))
                yield _row(device, length.name, variant, *cells)
    yield ""


def _against(run: Mapping[str, Any] | None, plain: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    """Seconds and memory, each with its ratio to the plain network's."""
    ours, theirs = _seconds(run), _seconds(plain)
    added, theirs_added = _added(run), _added(plain)
    return (
        _why(run) if ours is None else f"{ours:.3g}",
        f"{ours / theirs:.2f}" if ours and theirs else "",
        "" if added is None else f"{added / 1e6:,.0f}",
        f"{added / theirs_added:.2f}" if added and theirs_added else "",
    )


def _first(run: Mapping[str, Any] | None) -> str:
    return "" if run is None or run["first_s"] is None else f"{run['first_s']:.3g}"


def _speed(run: Mapping[str, Any] | None, flops: float, gpu: Gpu | None) -> tuple[str, str]:
    seconds = _seconds(run)
    if seconds is None:
        return "", ""
    return f"{flops / seconds / 1e12:.3g}", f"{mfu(flops, seconds, 1, gpu):.1%}" if gpu else ""


def _gpu(name: str) -> Gpu | None:
    """The one whose peak is known, out of the driver's name of it."""
    return next((gpu for key, gpu in GPUS.items() if key in re.split(r"\W+", name)), None)


def _autoencoders(runs: Runs) -> Iterator[str]:
    yield "### Autoencoders"
    yield ""
    yield (
        "Frames a second of one clip (frames x height x width; the two causal networks take one frame more), and the "
        "memory of it. On a CPU the networks are small ones with tiles of 128 pixels; on a GPU they have full size "
        "and tiles of 256 pixels. The Video DC-AE's tiles also have at most 32 frames. diffusers' network is as it "
        "comes: it cuts time always, into tiles of 16 frames, and what *tiled* adds is tiles of pixels."
    )
    yield ""
    yield "| device | clip | network | encode, frames/s | memory, MB | decode, frames/s | memory, MB |"
    yield "|---|---|---|---|---|---|---|"
    for (device, what), clip in plan.CLIPS.items():
        for tiled in clip.tiled:
            for variant in plan.VARIANTS[what]:
                cells: list[str] = []
                for way in plan.WAYS:
                    run = runs.get((device, what, variant, plan.codec_name(way, clip, tiled)))
                    seconds, added = _seconds(run), _added(run)
                    cells += [
                        f"{clip.frames_for(variant) / seconds:.3g}" if seconds else _why(run),
                        "" if added is None else f"{added / 1e6:,.0f}",
                    ]
                yield _row(device, clip.name(tiled), variant, *cells)
    yield ""


def _sampling(runs: Runs) -> Iterator[str]:
    yield "### Sampling"
    yield ""
    yield (
        f"Seconds a guided step through those blocks, a mean over {plan.STEPS} steps of which three fifths are guided "
        "whole, as in the published 50. Three passes always, as the public code runs, against passes that cancel being "
        "skipped; *passes* is the ratio of their numbers."
    )
    yield ""
    yield "| device | tokens | task | three passes, s | skipped, s | ratio | passes |"
    yield "|---|---|---|---|---|---|---|"
    for device, length in plan.SAMPLED.items():
        for kind in plan.KINDS:
            names = (plan.pass_name(kind, skipping) for skipping in (False, True))
            both = [runs.get((device, plan.SAMPLING, plan.OURS, name)) for name in names]
            everything, skipped = (_seconds(run) for run in both)
            cells = [_why(run) if (s := _seconds(run)) is None else f"{s / plan.STEPS:.3g}" for run in both]
            ratio = f"{skipped / everything:.2f}" if everything and skipped else ""
            yield _row(device, length.name, kind, *cells, ratio, f"{plan.passes_left(kind):.2f}")


def _seconds(run: Mapping[str, Any] | None) -> float | None:
    return median(run["seconds"]) if run and not run["failed"] and run["seconds"] else None


def _added(run: Mapping[str, Any] | None) -> int | None:
    return run["added"] if run and not run["failed"] else None


def _why(run: Mapping[str, Any] | None) -> str:
    """Why there is no figure: a full memory is a finding, all else was not measured."""
    if run is None or not run["failed"]:
        return NOT_MEASURED
    if run["failed"] == plan.OUT_OF_MEMORY:
        return plan.OUT_OF_MEMORY
    return f"{NOT_MEASURED}: {run['failed'].replace('|', '/')}"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
