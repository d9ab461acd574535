"""What curation costs: CPU-seconds of the real command against a bare decode and encode, and against older tools.

    python -m bench.curate --videos DIR [--copies 1 4] [--presets medium veryfast] [--json FILE]

Runs `ziggurat curate` on the videos of a folder with recipes that keep all, half and a tenth of the clips, counts every
process of the run, Ray's own included (`bench/meter.py`), and measures the references (`references`) in the
same minutes: L, a bare decode of every source and a bare encode of the kept clips; S, the sequence of single-purpose
tools, which cuts every clip. References run in as many processes at a time as ours has workers, because neighbours on
a machine slow each other down. Text and CLIP filters are off in these runs; their cost a clip is told apart. What the
measuring pass alone adds to a decode, by the height of the pictures, is from `bench/curate/heights.py`.

With --copies N each video is taken N times, each with other bytes after its end and so another content hash: that is a
job in which Ray's start is spread over more. References are measured on one copy and multiplied.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench import meter
from bench.curate import heights
from bench.meter import Cost

CRF = 18
SHARES = {"all": 1.0, "half": 0.5, "a tenth": 0.1}
GOALS_L = 1.25
GOALS_S = {"all": 2.5, "half": 5.0}
SUFFIXES = (".mp4", ".mov", ".m4v", ".f4v", ".webm", ".mkv", ".avi")
_HEIGHTS = (
    f"The measuring pass beside a bare decode, both alone in one process, best of {heights.ROUNDS}, CPU time; "
    f"scores at {heights.SIDE} lines:"
)
VERSIONS = ("av", "opencv-python-headless", "ray", "pylance", "imageio-ffmpeg", "scenedetect-headless", "numpy")


@dataclass(frozen=True, slots=True)
class Curated:
    """What a first run found on one copy: the rows of all clips by the path of their source."""

    clips: dict[str, list[dict[str, Any]]]
    accepted: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for rows in self.clips.values() for row in rows]


@dataclass(slots=True)
class References:
    """CPU-seconds on one copy: decoding each source, encoding each clip, and the steps of the tools, by preset."""

    decode_s: float = 0.0
    decode_accepted_s: float = 0.0
    encode_s: dict[str, dict[str, float]] = field(default_factory=dict)
    tools_s: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(slots=True)
class Run:
    """One run of the command; `kept` clip ids of one copy."""

    preset: str
    share: str
    copies: int
    kept: int
    clips: int
    cost: Cost
    bare_s: float
    bare_accepted_s: float
    tools_s: float | None
    load: float


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="ziggurat-bench-", dir=options.work) as folder:
        report = measure(Path(folder), options)
    print(markdown(report))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--videos", type=Path, required=True, help="folder of videos, not searched below")
    parser.add_argument("--copies", type=int, nargs="+", default=[1], help="how many times each video is taken")
    parser.add_argument("--presets", nargs="+", default=["medium", "veryfast"], help="x264 presets")
    parser.add_argument("--shares", nargs="+", choices=list(SHARES), default=list(SHARES))
    parser.add_argument("--by", choices=("motion", "sharpness"), default="motion", help="score of the threshold")
    parser.add_argument("--cpus", type=int, default=os.cpu_count(), help="processors for Ray and the references")
    parser.add_argument("--no-tools", action="store_true", help="leave out the sequence of older tools")
    parser.add_argument("--work", type=Path, help="where temporary files go")
    parser.add_argument("--json", type=Path, help="write the raw numbers here")
    return parser.parse_args()


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All runs and references; a plain object for JSON and for `markdown`."""
    originals = [p for p in sorted(options.videos.iterdir()) if p.is_file() and p.suffix.lower() in SUFFIXES]
    sets = {n: copies(originals, n, folder / f"videos{n}") for n in {1, *options.copies}}
    first = _curate(folder, sets[1], recipe("medium", options.by, None), options.cpus, "first")
    found = _found(folder / "first", sets[1])
    references = References()
    runs: list[Run] = []
    for preset in options.presets:
        _refer(folder, references, found, preset, options, sets[1])
        for number in options.copies:
            for share in options.shares:
                runs.append(_one(folder, references, found, preset, share, number, sets[number], options))
                meter.say(_line(runs[-1]))
    found_heights = by_height(folder, options.videos)
    ocr = _ask_many(folder, [{"work": "ocr", "pyramid": str(folder / "first")}])[0]
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpu": meter.cpu_model(), "cores": os.cpu_count(), "used": options.cpus, "load": os.getloadavg()},
        "versions": {"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
        "videos": len(originals),
        "accepted": found.accepted,
        "clips": len(found.rows),
        "clip_seconds": sum(row["frames"] / row["fps"] for row in found.rows),
        "threshold_by": options.by,
        "measuring_only": asdict(first),
        "references": asdict(references),
        "heights": found_heights,
        "ocr": ocr,
        "clip": "measured elsewhere" if find_spec("torch") else "not measured: torch is not installed",
        "runs": [asdict(run) for run in runs],
    }


def copies(originals: Sequence[Path], number: int, folder: Path) -> Path:
    """A folder with every video `number` times, each with its own bytes; the first copy is the video as it is."""
    folder.mkdir()
    for path in originals:
        for copy in range(number):
            place = folder / f"{path.stem}-{copy}{path.suffix}"
            shutil.copyfile(path, place)
            if copy:
                with place.open("ab") as file:
                    file.write(padding(path.suffix.lower(), f"{copy}".rjust(16).encode()))
    return folder


def padding(suffix: str, content: bytes) -> bytes:
    """An element that a reader of this container skips: a `free` box, an EBML Void, a RIFF JUNK chunk."""
    if suffix in (".webm", ".mkv"):
        return b"\xec" + bytes([0x80 | len(content)]) + content
    if suffix == ".avi":
        return b"JUNK" + len(content).to_bytes(4, "little") + content
    return (8 + len(content)).to_bytes(4, "big") + b"free" + content


def recipe(preset: str, by: str, least: float | None) -> str:
    """A recipe with one tier; `least` None measures and cuts nothing."""
    cut = "" if least is None else '[cut]\ntier = "kept"\n'
    return (
        f'name = "bench"\n[encode]\npreset = "{preset}"\ncrf = {CRF}\n{cut}'
        "[filters.ocr]\nenabled = false\n[filters.aesthetic]\nenabled = false\n"
        f'[[tiers]]\nname = "kept"\n{by} = [{0.0 if least is None else least}, inf]\n'
    )


def _one(
    folder: Path,
    references: References,
    found: Curated,
    preset: str,
    share: str,
    number: int,
    videos: Path,
    options: argparse.Namespace,
) -> Run:
    least = threshold(found, options.by, SHARES[share])
    kept = [row["clip_id"] for row in found.rows if row[options.by] >= least]
    load = os.getloadavg()[0]
    cost = _curate(folder, videos, recipe(preset, options.by, least), options.cpus, f"{preset}-{share[-4:]}-{number}")
    encode = sum(references.encode_s[preset][clip] for clip in kept)
    tools = sum(references.tools_s[preset].values()) * number if preset in references.tools_s else None
    return Run(
        preset,
        share,
        number,
        len(kept) * number,
        len(found.rows) * number,
        cost,
        (references.decode_s + encode) * number,
        (references.decode_accepted_s + encode) * number,
        tools,
        load,
    )


def threshold(found: Curated, by: str, share: float) -> float:
    """The lowest score of the `share` of clips with the highest ones."""
    values = sorted((row[by] for row in found.rows), reverse=True)
    if share == 1.0:
        return 0.0
    last = max(1, round(share * len(values)))
    return (values[last - 1] + values[last]) / 2


def _curate(folder: Path, videos: Path, text: str, cpus: int, name: str) -> Cost:
    """Run the command as a user does; its pyramid stays in `folder / name`."""
    recipe_file = folder / f"{name}.toml"
    recipe_file.write_text(text)
    output = folder / f"{name}.out"
    shutil.rmtree(folder / name, ignore_errors=True)
    command = [sys.executable, "-m", "pipelines.cli", "curate", str(videos), "--to", str(folder / name)]
    cost = meter.run([*command, "--recipe", str(recipe_file), "--cpus", str(cpus), "--json"], output)
    if cost.code:
        raise SystemExit(f"the command failed with {cost.code}:\n{output.read_text()[-2000:]}")
    return cost


def _found(pyramid: Path, videos: Path) -> Curated:
    from curation.pyramid.store import Pyramid
    from curation.rows import CLIP_COLUMNS

    opened = Pyramid.open(str(pyramid))
    ledger = opened.dataset("videos").to_table(columns=["video_id", "uris", "status"]).to_pylist()
    paths = {row["video_id"]: videos / row["uris"][0].rpartition("/")[2] for row in ledger}
    clips: dict[str, list[dict[str, Any]]] = {str(path): [] for path in paths.values()}
    table = opened.query().columns(*CLIP_COLUMNS, "motion", "sharpness").to_table()
    for row in table.to_pylist():
        clips[str(paths[row["video_id"]])].append(row)
    return Curated(clips, sum(row["status"] == "done" for row in ledger))


def _refer(
    folder: Path, references: References, found: Curated, preset: str, options: argparse.Namespace, videos: Path
) -> None:
    """Measure L's parts and S for one preset."""
    listed = [{"path": path, "clips": rows} for path, rows in sorted(found.clips.items())]
    # Longest first into the emptier half: the processes should work side by side to the end.
    shares = _dealt(listed, options.cpus)
    encode = {"preset": preset, "crf": CRF}
    costs: dict[str, float] = {}
    for part in _ask_many(folder, [{"work": "bare", "videos": share, "encode": encode} for share in shares]):
        costs |= part
    references.decode_s = sum(costs[path] for path in found.clips)
    references.decode_accepted_s = sum(costs[path] for path, rows in found.clips.items() if rows)
    references.encode_s[preset] = {row["clip_id"]: costs[row["clip_id"]] for row in found.rows}
    if options.no_tools:
        return
    steps: dict[str, float] = {}
    for part in _ask_many(folder, [{"work": "tools", "videos": share, "encode": encode} for share in shares]):
        steps = {step: steps.get(step, 0.0) + cost for step, cost in part.items()}
    references.tools_s[preset] = steps


def _dealt(videos: list[dict[str, Any]], hands: int) -> list[list[dict[str, Any]]]:
    def pixels(video: Mapping[str, Any]) -> int:
        return sum(row["frames"] * row["width"] * row["height"] for row in video["clips"])

    dealt: list[list[dict[str, Any]]] = [[] for _ in range(hands)]
    for video in sorted(videos, key=pixels, reverse=True):
        min(dealt, key=lambda hand: sum(map(pixels, hand))).append(video)
    return dealt


def _ask_many(folder: Path, orders: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """The references' answers, all worked out at the same time."""
    started: list[subprocess.Popen[str]] = []
    for number, order in enumerate(orders):
        place = folder / f"order{number}.json"
        place.write_text(json.dumps(order))
        command = [sys.executable, "-m", "bench.curate.references", str(place)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    answers: list[dict[str, float]] = []
    for process in started:
        said, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"a reference failed with {process.returncode}")
        answers.append(json.loads(said.splitlines()[-1]))
    return answers


def by_height(folder: Path, videos: Path) -> list[dict[str, Any]]:
    """`heights.Passes` of all videos, measured in a process of its own with nothing beside it."""
    place = folder / "heights.json"
    command = [sys.executable, "-m", "bench.curate.heights", "--videos", str(videos), "--json", str(place)]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return json.loads(place.read_text())


def markdown(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    heights_table = [_HEIGHTS, "", *heights.table(report["heights"])]
    return "\n".join([*_head(report), "", *_table(report), "", *_details(report), "", *heights_table])


def _head(report: Mapping[str, Any]) -> Iterator[str]:
    machine, references = report["machine"], report["references"]
    yield (
        f"{report['videos']} videos ({report['accepted']} accepted), {report['clips']} clips, "
        f"{report['clip_seconds']:.0f} s of clips; {machine['cpu']}, {machine['used']} of {machine['cores']} cores, "
        f"load {machine['load'][0]:.1f}, {report['made']}."
    )
    yield ""
    yield (
        f"On one copy, CPU-s: bare decode {references['decode_s']:.1f} (of the accepted "
        f"{references['decode_accepted_s']:.1f}), measuring alone as a command {report['measuring_only']['cpu_s']:.1f}."
    )
    for preset, costs in references["encode_s"].items():
        yield f"Bare encode of all clips, {preset}: {sum(costs.values()):.1f}."
    for preset, steps in references["tools_s"].items():
        yield f"Tools, {preset}: " + ", ".join(f"{step} {cost:.1f}" for step, cost in steps.items()) + "."


def _table(report: Mapping[str, Any]) -> Iterator[str]:
    # S / L is what S / ours could be at most: nothing that decodes once and encodes what is kept costs less than L.
    yield "| preset | copies | kept | ours, CPU-s | L | ours / L | goal | S | S / ours | goal | S / L |"
    yield "|---|---|---|---|---|---|---|---|---|---|---|"
    for run in report["runs"]:
        kept = f"{run['share']} ({run['kept']}/{run['clips']})"
        yield _row(run, str(run["copies"]), kept, run["cost"]["cpu_s"], run["bare_s"], run["tools_s"])
    # What a long job comes to: Ray's start is in the first copy, so the difference between two sizes is without it.
    for run, more in pairwise(sorted(report["runs"], key=lambda run: (run["preset"], run["share"], run["copies"]))):
        if (run["preset"], run["share"]) == (more["preset"], more["share"]):
            tools = None if run["tools_s"] is None else more["tools_s"] - run["tools_s"]
            ours = more["cost"]["cpu_s"] - run["cost"]["cpu_s"]
            yield _row(run, "each further", run["share"], ours, more["bare_s"] - run["bare_s"], tools)


def _row(run: Mapping[str, Any], copies: str, kept: str, ours: float, bare: float, tools: float | None) -> str:
    goal = GOALS_S.get(run["share"])
    return (
        f"| {run['preset']} | {copies} | {kept} | {ours:.1f} | {bare:.1f} | {ours / bare:.2f} | {GOALS_L:.2f} "
        f"| {'' if tools is None else f'{tools:.1f}'} | {'' if tools is None else f'{tools / ours:.2f}'} "
        f"| {'' if goal is None else goal} | {'' if tools is None else f'{tools / bare:.2f}'} |"
    )


def _details(report: Mapping[str, Any]) -> Iterator[str]:
    yield "| preset | copies | kept | start, wall s / CPU-s | worker peak, MB | driver peak, MB | CPU-s by process |"
    yield "|---|---|---|---|---|---|---|"
    for run in report["runs"]:
        cost = run["cost"]
        by = ", ".join(f"{name} {cpu:.1f}" for name, cpu in sorted(cost["cpu_by"].items(), key=lambda p: -p[1]))
        start = "" if cost["start_wall_s"] is None else f"{cost['start_wall_s']:.1f} / {cost['start_cpu_s']:.1f}"
        yield (
            f"| {run['preset']} | {run['copies']} | {run['share']} | {start} "
            f"| {cost['worker_peak'] / 1e6:.0f} | {cost['driver_peak'] / 1e6:.0f} | {by} |"
        )
    ocr = report["ocr"]
    yield ""
    yield (
        f"Text filter: {ocr['ms_without_text']:.0f} CPU-ms a clip without text, {ocr['ms_with_text']:.0f} one of the "
        f"{ocr['clips_with_text']} with text, loading {ocr['load_s']:.1f} s. CLIP: {report['clip']}."
    )


def _line(run: Run) -> str:
    return f"{run.preset} x{run.copies} {run.share}: ours {run.cost.cpu_s:.1f}, L {run.bare_s:.1f}, S {run.tools_s}"


if __name__ == "__main__":
    main()
