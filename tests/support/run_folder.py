"""The folder of a training run as training leaves it, for tests of what is seen of it: no training takes place."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

from curation.pyramid.history import runs
from curation.pyramid.storage.files import Files
from pipelines.training.account import Course

FILM = "000-a_red_fox.mp4"


def written(folder: Path, steps: int = 20, of: int = 100, **changes: object) -> Path:
    """A run of this process that is at work, at step `steps`; `changes`: of its record."""
    course = Course(manifest="first (abc)", data="latents", model="tiny", preset={}, steps=of)
    course.step, course.restarts, course.events = steps - 1, ["a worker was lost"], ["<b>3</b> samples are left out"]
    now = runs.utc()
    record = runs.Run("1", ("ziggurat", "train"), "tiny", None, {}, runs.this_process(), now, now)
    folder.mkdir(parents=True)
    runs.write(Files(str(folder)), replace(record, account=asdict(course), **changes))  # type: ignore[arg-type]
    lines = [{"kind": "begin", "step": 0, "validation/loss": 2.0}]
    lines += [
        {
            "kind": "step",
            "step": step,
            "loss": 3.0 - step / 10,
            "norm": 1.0,
            "seconds": 2.0,
            "waiting": 0.25,
            "rate": 1e-3,
        }
        | ({f"validation/t=0.{t}": 1.0 + t for t in range(1, 10)} | {"validation/loss": 1.5} if step % 10 == 0 else {})
        for step in range(1, steps + 1)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in ("step-0000000010", "step-0000000020.part", "step-0000000005.suspect"):
        (folder / "checkpoints" / name).mkdir(parents=True)
    head = {"made": now, "files": {"shard-0.safetensors": 1000, "shard-1.safetensors": 24}}
    (folder / "checkpoints" / "step-0000000010" / "head.json").write_text(json.dumps(head))
    sampled = folder / "samples" / "step-0000000010"
    sampled.mkdir(parents=True)
    (sampled / FILM).write_bytes(bytes(range(256)) * 8)
    how = {"seed": 7, "width": 64, "height": 48, "frames": 8, "fps": 24}
    names = (FILM, "gone.mp4", "../../log.jsonl", "leading.mp4")
    (sampled / "leading.mp4").symlink_to("/etc/passwd")
    said = [json.dumps({"file": name, "prompt": "a <red> fox", **how}) for name in names]
    (sampled / "samples.jsonl").write_text("\n".join([*said, '{"torn']))
    return folder
