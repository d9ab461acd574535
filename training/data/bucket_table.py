"""Bucket tables: which resolutions and lengths are trained, in what batches; their file, and the published ones.

`buckets` sends clips through a table, `tuning.search` makes one for other hardware. The file is TOML:

    side_multiple = 16
    [buckets.256px]
    33 = { batch = 12, p = 1.0 }
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from curation.errors import UserError
from training.data.aspect import pixels, sizes
from training.models.base import LatentSpec


@dataclass(frozen=True, slots=True)
class Slot:
    """One length at one resolution: samples in a batch of one GPU, and how likely a fitting clip takes it."""

    batch: int
    p: float = 1.0


@dataclass(frozen=True)
class BucketTable:
    """Resolution -> frames -> slot, and what the sides of a picture are multiples of. UserError: makes no sense."""

    slots: Mapping[str, Mapping[int, Slot]]
    side_multiple: int = 16

    def __post_init__(self) -> None:
        if type(self.side_multiple) is not int or self.side_multiple < 1:
            raise UserError(f"side_multiple is {self.side_multiple}", "it is 16, or 32 with Video DC-AE")
        if not any(self.slots.values()):
            raise UserError("the bucket table is empty", "give at least one resolution one length")
        for resolution, lengths in self.slots.items():
            sizes(resolution, self.side_multiple)
            for frames, slot in lengths.items():
                if frames < 1 or slot.batch < 1 or not 0 <= slot.p <= 1:
                    cause = f"bucket {resolution}, {frames} frames has batch {slot.batch} and p {slot.p}"
                    raise UserError(cause, "frames and batch are 1 and more, p is from 0 to 1")

    @cached_property
    def walk(self) -> list[tuple[str, int, list[tuple[int, Slot]]]]:
        """(resolution, pixels, lengths from long to short), from large to small."""
        large_first = sorted(self.slots, key=pixels, reverse=True)
        return [(name, pixels(name), sorted(self.slots[name].items(), reverse=True)) for name in large_first]

    @property
    def buckets(self) -> int:
        """How many there are: every ratio of every slot."""
        return sum(len(lengths) * len(sizes(name, self.side_multiple)) for name, lengths in self.slots.items())

    def check(self, spec: LatentSpec) -> None:
        """UserError where a length or a side does not fit an autoencoder."""
        if self.side_multiple % (spec.space * spec.patch):
            cause = f"the buckets' sides are multiples of {self.side_multiple}"
            raise UserError(cause, f"this network needs side_multiple = {spec.space * spec.patch}")
        for lengths in self.slots.values():
            for frames in lengths:
                spec.frames(frames)

    def to_toml(self) -> str:
        """The table as a file that `from_toml` reads back equal."""
        lines = [f"side_multiple = {self.side_multiple}"]
        for resolution, _, lengths in self.walk:
            name = resolution if resolution.isalnum() else f'"{resolution}"'
            lines += ["", f"[buckets.{name}]"]
            lines += [f"{n} = {{ batch = {slot.batch}, p = {slot.p!r} }}" for n, slot in reversed(lengths)]
        return "\n".join(lines) + "\n"


def from_toml(text: str) -> BucketTable:
    """A table from its file's text. UserError: no TOML, an unknown or missing field, a value that makes no sense."""
    remedy = "write side_multiple and [buckets.256px] with lines like 33 = { batch = 12, p = 1.0 }"
    try:
        read = tomllib.loads(text)
        slots = {name: {int(n): _slot(s) for n, s in lengths.items()} for name, lengths in read.pop("buckets").items()}
        return BucketTable(slots, **read)
    except (tomllib.TOMLDecodeError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise UserError(f"this is no bucket table ({error})", remedy) from error


def load(name: str) -> BucketTable:
    """A published table by name, or one from a file."""
    if name in PRESETS:
        return PRESETS[name]
    try:
        return from_toml(Path(name).read_text())
    except OSError as error:
        raise UserError(f"no bucket table {name}", f"give a file or one of {', '.join(PRESETS)}") from error


def _slot(read: Mapping[str, Any]) -> Slot:
    slot = Slot(**read)
    if type(slot.batch) is not int or type(slot.p) not in (int, float):
        raise TypeError(f"batch {slot.batch!r}, p {slot.p!r}")
    return slot


def _lengths(
    images: int, videos: Iterable[int] = (), p: float = 1.0, image_p: float = 1.0, causal: bool = True
) -> dict[int, Slot]:
    """Images, and 32 frames a group: 5-33, 37-65, 69-97, 101-129, or 16-32, 36-64, ... where not causal."""
    slots = {1: Slot(images, image_p)}
    for group, batch in enumerate(videos):
        first = 32 * group + 4 if causal or group else 16
        slots |= {frames + causal: Slot(batch, p) for frames in range(first, 32 * group + 33, 4)}
    return slots


_STAGE1 = BucketTable(
    {
        "256px": _lengths(45, (12, 6, 4, 3)),
        "768px": _lengths(13, image_p=0.5),
        "1024px": _lengths(7, image_p=0.5),
    }
)

PRESETS: Mapping[str, BucketTable] = {
    "stage1": _STAGE1,
    "stage1_i2v": _STAGE1,
    "stage2": BucketTable({"256px": _lengths(130, (14, 10, 7, 6)), "768px": _lengths(38, (6, 4, 3, 2))}),
    "stage2_i2v": BucketTable(
        {"256px": _lengths(195, (80, 40, 28, 23)), "768px": _lengths(38, (10, 5, 3, 2), p=0.5, image_p=0.5)}
    ),
    "high_compression": BucketTable({"768px": _lengths(20, (8, 4, 3, 2), causal=False)}, side_multiple=32),
    "autoencoder": BucketTable({"256px_ar1:1": {32: Slot(1)}}, side_multiple=32),
    "image": BucketTable(
        {"256px": _lengths(50), "768px": _lengths(11, image_p=0.5), "1024px": _lengths(7, image_p=0.5)}
    ),
}
"""Spec section 4.4, for GPUs of 141 GB; 1.5 for the autoencoder. The public stage2 table has no bucket of 69 frames at
256px; this one does."""
