"""How the answers of the commands about shards are shown: `freeze`, `manifests`, `encode`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, TextIO

from rich import filesize
from rich.console import Console
from rich.table import Table

from curation.printable import printable
from curation.shards.manifest import Manifest
from pipelines.commands.shards.freeze import remedy_of
from pipelines.commands.shards.manifests import Shown
from pipelines.render.lines import line, note

if TYPE_CHECKING:  # for its type alone: looking at manifests needs no Ray
    from pipelines.commands.shards.encode import Answer


def freeze(made: Manifest, as_json: bool) -> None:
    """Of `freeze.freeze`."""
    _whole(Shown(made, 0, True), as_json)


def manifests(found: Sequence[Shown], one: bool, as_json: bool) -> None:
    """Of `manifests.manifests`; `one`: all that the only one says."""
    if one:
        _whole(found[0], as_json)
    elif as_json:
        for shown in found:
            print(json.dumps(_data(shown)))
    else:
        _list(found)


def encode(done: Answer, as_json: bool, out: TextIO) -> None:
    """Of `encode.encode`, to `out`."""
    account = done.account
    for told in done.notes:
        note(told)
    if as_json:
        ended = {"losses": account.losses, "exit": account.exit_code, "to": done.to, "notices": done.notes}
        print(json.dumps({"event": "summary", "manifest": done.manifest, **asdict(account), **ended}), file=out)
        return
    console = Console(file=out, width=100, highlight=False, markup=False)
    rows = [
        ("samples of the manifest", account.samples),
        ("encoded before", account.done_before),
        ("  of these out of the journal of a killed run", account.recovered),
        ("encoded now", account.done),
        ("taken down since they were frozen: left out", account.taken_down),
        ("  rows of these removed", account.removed),
        ("prompts that lost their end, too long for the text encoder", account.truncated),
        *((f"not encoded: {why}", count) for why, count in account.failed.items()),
    ]
    console.print(printable(f"{done.manifest} -> {done.to}"), soft_wrap=True)
    table = Table(show_header=False)
    for name, count in rows:
        if count or not name.startswith((" ", "taken", "prompts")):
            table.add_row(name, f"{count:,}")
    console.print(table)
    size = filesize.decimal(account.bytes)
    console.print(f"{account.frames:,} frames in {account.seconds:.0f} s, {size} written")
    if account.failed:
        console.print(
            "exit code 1: the clips are in the pyramid and could not be encoded; the same command tries again"
        )


def _list(found: Sequence[Shown]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("name", "tier", "preset", "samples", "left out", "made", "hash"):
        right = column in ("samples", "left out")
        table.add_column(column, justify="right" if right else "left", no_wrap=column == "name", overflow="fold")
    for manifest in (shown.manifest for shown in found):
        counts = (f"{manifest.samples:,}", f"{sum(manifest.missed.values()):,}")
        table.add_row(manifest.name, manifest.tier or "", manifest.preset, *counts, manifest.made, manifest.sha256[:12])
    Console(width=max(Console().width, 120), highlight=False, markup=False).print(table)


def _whole(shown: Shown, as_json: bool) -> None:
    if as_json:
        print(json.dumps(_data(shown)))
        return
    manifest = shown.manifest
    console = Console(width=max(Console().width, 120), highlight=False, markup=False)
    line(f"{manifest.pyramid}#{manifest.name}: {manifest.samples:,} samples", flush=True)
    total = manifest.samples + sum(manifest.missed.values())
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(4):
        table.add_column(overflow="fold")
    rows = [(f"{bucket} frames", count, "") for bucket, count in manifest.buckets.items()]
    rows += [(f"left out: {why}", count, remedy_of(why)) for why, count in manifest.missed.items()]
    for what, count, remedy in rows:
        table.add_row(what, f"{count:,}", f"{count / total:.1%}", remedy)
    console.print(table)
    asked = "; ".join(manifest.query) or "every clip"
    pinned = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    line(f"tier {manifest.tier or 'none'}: {asked}")
    if manifest.caption_by:
        counts = ", ".join(f"{by} {count:,}" for by, count in manifest.captions.items())
        line(f"captions by {', else '.join(manifest.caption_by)}: {counts}")
    line(f"buckets {manifest.preset}, draws by seed {manifest.seed}")
    line(f"versions {'not pinned any more' if shown.pinned is False else f'pinned as {manifest.pin}'}: {pinned}")
    line(f"made {manifest.made} by {manifest.made_by}, sha256 {manifest.sha256}")
    if shown.forgotten:
        line(f"taken down since: {shown.forgotten:,} samples, which are not encoded any more")


def _data(shown: Shown) -> dict[str, object]:
    looked = {} if shown.forgotten is None else {"forgotten": shown.forgotten, "pinned": shown.pinned}
    return {"kind": "manifest", **asdict(shown.manifest), **looked}
