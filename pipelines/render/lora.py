"""How the answers of `ziggurat lora` are shown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from pipelines.render.lines import line

if TYPE_CHECKING:
    from pipelines.commands.training.lora import ExportedAdapter, ExtractedAdapter, MergedAdapter

WORST, LEFT = 5, 5
"""So many layers and names are shown to a person; a program gets all."""


def merged(done: MergedAdapter, as_json: bool) -> None:
    """Of `lora.merge`."""
    if as_json:
        print(json.dumps(asdict(done)))
        return
    line(f"{_listed(done.files)}: {done.layers} layers of rank {done.rank}, scaled by {done.scale:g}")
    if done.rounding > 1e-4:
        line(f"{100 * done.rounding:.2g} % of the adapter is lost to the rounding of the weights' type")


def exported(done: ExportedAdapter, as_json: bool) -> None:
    """Of `lora.export`."""
    if as_json:
        print(json.dumps(asdict(done)))
        return
    line(f"{_listed(done.files)}: {done.layers} layers of rank {done.rank} for {done.format}")


def extracted(done: ExtractedAdapter, as_json: bool) -> None:
    """Of `lora.extract`: the error, the worst layers, and what is not in it."""
    if as_json:
        print(json.dumps(asdict(done)))
        return
    line(f"{_listed(done.files)}: {len(done.layers)} layers of rank {done.rank}")
    line(f"{100 * done.error:.2g} % of the difference is not in it; the worst layers:")
    for one in sorted(done.layers, key=lambda one: -one.error)[:WORST]:
        line(f"  {100 * one.error:.2g} %  {one.layer}")
    if done.left:
        line(f"these differ too and are left as they are: {_listed(done.left)}")


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - LEFT
    return ", ".join(names[:LEFT]) + (f" and {rest} more" if rest > 0 else "")
