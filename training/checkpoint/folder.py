"""Where checkpoints lie and which of them are whole.

    RUN/checkpoints/step-0000001000/            whole: it has this name only once all of it is on the disk
                        head.json               what it is of (`Head`): numbers, shapes, the files and their sizes
                        shard-*.safetensors     float32 weights, moments and averages, as DCP writes safetensors
    RUN/checkpoints/step-0000002000.part/       being written, or left by a killed run
    RUN/checkpoints/step-0000003000.suspect/    set aside, for its numbers may be wrong: never loaded, never removed

Every save has a new folder: into a used one, a save that is killed leaves a mixture of two steps that loads without a
word. DCP's own index is a pickle, so it is not used: a checkpoint that someone hands on may not run code.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import count
from pathlib import Path
from typing import Any, Self

from curation.errors import UserError

FORMAT = 1
HEAD = "head.json"
PART = ".part"
SUSPECT = ".suspect"
_NAME = re.compile(r"step-(\d{10})")
_EARLIER = "remove it, and an earlier one is taken"
_ELSEWHERE = "give another folder with --to, or go on with the run that this one holds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What decides the batches, the noise and the network: a run goes on only where all of it is the same.

    Of a run that trains an adapter, `shapes` are its factors' alone; `base` is the fingerprint of the frozen weights
    (`lora.base`), and `alpha` what the adapter is scaled by. Other runs have neither. `latents`: what made them
    (`latent_file.Head.by`), "" where there are none, or in a checkpoint that is older than this.
    """

    manifest: str
    seed: int
    per_step: int
    held_out: int
    base: str = ""
    alpha: float | None = None
    latents: str = ""
    shapes: Mapping[str, tuple[int, ...]] = field(repr=False)

    def check(self, other: Identity, where: str) -> None:
        """UserError where `other`, of the checkpoint `where`, is of another run."""
        words = {
            "manifest": "manifest",
            "seed": "seed",
            "per_step": "batches.per_step",
            "held_out": "validation.samples",
            "base": "base weights",
            "alpha": "lora.alpha",
            **({"latents": "latents"} if self.latents and other.latents else {}),
        }
        for name, word in words.items():
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                raise UserError(f"{where} is of {word} {_short(theirs)}, not {_short(ours)}", _ELSEWHERE)
        for name in sorted({*self.shapes, *other.shapes}):
            ours, theirs = self.shapes.get(name), other.shapes.get(name)
            if ours != theirs:
                raise UserError(
                    f"{where} is of another network: {name} is {_by(theirs)} there and {_by(ours)} here", _ELSEWHERE
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """`progress`: how far the run was. `parts`: what was saved of each weight. `network`: the transformer's preset, or
    where `method` is "autoencoder" that one's. `settings`: the training preset as it was in force. `missing`: how many
    samples were left out, `left_out`: which, in one word, "" in an older checkpoint. `files`: sizes in bytes.
    """

    identity: Identity
    network: str
    settings: Mapping[str, Any]
    missing: int
    left_out: str = ""
    engine: str
    ranks: int
    torch: str
    method: str = "flow_matching"
    progress: Mapping[str, int] = field(default_factory=dict)
    parts: Sequence[str] = ()
    made: str = ""
    files: Mapping[str, int] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    def leaves_out_as(self, other: Head) -> bool:
        """Whether both are of the same samples, as far as an older checkpoint tells."""
        known = bool(self.left_out and other.left_out)
        return self.missing == other.missing and (not known or self.left_out == other.left_out)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The head of a whole checkpoint. UserError: none, of a newer format, or with files that are not as saved."""
        try:
            read = json.loads((folder / HEAD).read_text())
            if read.get("format", 0) > FORMAT:
                raise UserError(f"{folder} is of a newer Ziggurat", "upgrade")
            known = {one.name for one in fields(cls)}
            identity = read["identity"]
            shapes = {name: tuple(shape) for name, shape in identity["shapes"].items()}
            values = {name: value for name, value in read.items() if name in known}
            head = cls(**{**values, "identity": Identity(**{**identity, "shapes": shapes})})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{folder} is no checkpoint ({error})", _EARLIER) from error
        head._check_files(folder)
        return head

    def _check_files(self, folder: Path) -> None:
        held = {path.name: path.stat().st_size for path in folder.iterdir() if path.name != HEAD}
        for name in sorted({*held, *self.files}):
            if not name.endswith(".safetensors"):
                raise UserError(f"{folder} holds {name}, which is no part of a checkpoint", "remove that file")
            if name not in self.files:
                raise UserError(f"{folder} holds {name}, of which its head does not know", _EARLIER)
            if held.get(name) != self.files[name]:
                cause = f"{folder / name} has {held.get(name, 0)} bytes, not {self.files[name]}"
                raise UserError(cause, _EARLIER)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Those of a run."""

    folder: Path

    def whole(self) -> list[Path]:
        """From old to new."""
        try:
            found = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
        except FileNotFoundError:
            return []
        return sorted(found)

    def newest(self) -> Path | None:
        return next(iter(reversed(self.whole())), None)

    def chosen(self, step: int | None) -> Path:
        """That of a step, None for the newest. UserError: there is no such whole one."""
        whole = self.whole()
        if not whole:
            remedy = "give the folder that `ziggurat train` was given with --to"
            raise UserError(f"{self.folder.parent} holds no whole checkpoint", remedy)
        found = whole[-1] if step is None else self.at(step)
        if found not in whole:
            steps = ", ".join(str(step_of(path)) for path in whole)
            raise UserError(f"{self.folder.parent} holds no checkpoint of step {step}", f"choose from {steps}")
        return found

    def at(self, step: int) -> Path:
        """Where the checkpoint of that step is, or will be."""
        return self.folder / f"step-{step:010}"

    def part(self, step: int) -> Path:
        """Where it is written."""
        return self.folder / f"step-{step:010}{PART}"

    def settle(self, step: int, head: Head) -> Path:
        """Make what was written for `step` a whole checkpoint."""
        part, place = self.part(step), self.at(step)
        files = {path.name: path.stat().st_size for path in part.iterdir()}
        made = replace(head, files=files)
        with (part / HEAD).open("w") as file:
            file.write(made.to_json())
            file.flush()
            os.fsync(file.fileno())
        _sync(part)
        if place.exists():  # saved again: what it held is of the same step
            self.remove(place)
        os.rename(part, place)
        _sync(self.folder)
        return place

    def sweep(self) -> None:
        """Remove what killed saves have left. Only while no save runs."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name.endswith(PART) and _NAME.fullmatch(path.name.removesuffix(PART)):
                    shutil.rmtree(path, ignore_errors=True)

    def thin(self, last: int, every: int) -> None:
        """Keep the newest `last`, and those whose step is a multiple of `every` (0: none besides)."""
        for path in self.whole()[:-last]:
            if not every or step_of(path) % every:
                self.remove(path)

    def remove(self, path: Path) -> None:
        """Remove one: renamed first, for what is half removed must not look whole."""
        gone = path.with_name(path.name + PART)
        os.rename(path, gone)
        shutil.rmtree(gone, ignore_errors=True)

    def set_aside(self, path: Path) -> Path:
        """Rename one so that it is neither loaded nor removed; where it is now."""
        names = (f"{path.name}{SUSPECT}{'' if number == 1 else f'-{number}'}" for number in count(1))
        aside = next(place for name in names if not (place := path.with_name(name)).exists())
        os.rename(path, aside)
        _sync(self.folder)
        return aside


def sha256_of(path: Path) -> str:
    """Of a checkpoint's head, which has the time that it was made: no two checkpoints have one."""
    return hashlib.sha256((path / HEAD).read_bytes()).hexdigest()


def step_of(path: Path) -> int:
    """The step of a checkpoint, by its name."""
    match = _NAME.fullmatch(path.name)
    assert match, f"{path} is not named as a checkpoint"
    return int(match[1])


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _short(value: object) -> str:
    return value[:12] if isinstance(value, str) else str(value)


def _by(shape: Sequence[int] | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape))
