"""How the answers of commands are shown: tables and lines for people, a JSON object a line for programs.

`pipelines.cli` calls it with what a command gave. A screen shows at most `TABLE_ROWS` rows and says how many there are.
Notes go to standard error.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TextIO

from rich import filesize
from rich.console import Console
from rich.table import Table
from rich.text import Text

from curation.contract import SCORES, Kind, Reason, scores_among
from curation.printable import printable
from curation.pyramid.history.ledger import History
from curation.pyramid.history.uncovered import Piece, uncovered
from curation.pyramid.queries import export, lineage
from curation.pyramid.queries.conditions import TEXTS
from curation.pyramid.queries.export import Rows
from curation.pyramid.queries.kinds import kind_of
from curation.pyramid.queries.selection import Selection
from curation.pyramid.review.asking import WORDED
from curation.pyramid.storage.about import Moved
from curation.pyramid.tiering.tiers import Bound, shown
from curation.reasons import REASONS
from pipelines.commands.pyramid.query import Answer, Saved
from pipelines.commands.pyramid.tiers import TierTable
from pipelines.commands.pyramid.videos import VideosAnswer
from pipelines.config.adoption import ADD_TIERS
from pipelines.render.lines import note
from pipelines.render.review import of_people

if TYPE_CHECKING:  # for their types alone: a query needs nothing of what they import
    from pipelines.commands.pyramid.dry_run import DryRun
    from pipelines.execution.probe import Probed

SHOWN = ("clip_id", "duration_s", "width", "height", *SCORES, "tier")
VIDEO_COLUMNS = ("video_id", "uris", "status", "reason", "measured", "detail", "duration_s", "fps", "width", "height")
TABLE_ROWS = 100
_IN_FORCE = (("caption", "caption"), ("by", "caption_by"), ("why", "caption_why"))
"""A row of `captions` that has these values of its clip is the one in force."""
MOST_REASONS = 5


def query(answer: Answer, as_json: bool) -> None:
    """Of `query.query`."""
    if answer.count is not None:
        print(json.dumps({"clips": answer.count}) if as_json else answer.count)
    elif answer.saved is not None:
        _saved(answer.saved, as_json)
    elif as_json:
        export.json_lines(Rows.of(answer.query), sys.stdout)
    else:
        _clips(answer)
    _notes(answer.beside.notes)


def videos(answer: VideosAnswer, as_json: bool) -> None:
    """Of `videos.videos`."""
    found = answer.listing
    if answer.count is not None:
        print(json.dumps({"videos": answer.count}) if as_json else answer.count)
    elif answer.output is not None:
        print(f"{answer.output}: {answer.saved} videos")
    elif as_json:
        export.json_lines(Rows.of(found), sys.stdout)
    else:
        _videos(found if answer.chosen else found.columns(*VIDEO_COLUMNS))


def tiers(table: TierTable, as_json: bool) -> None:
    """Of `tiers.tiers`."""
    if table.changed is not None:
        print(f"{table.changed} clips are in another tier now; no score was computed", file=sys.stderr)
    _notes(table.notes)
    if as_json:
        for row in table.as_data():
            print(json.dumps(row))
    else:
        _tiers(table)
    if not table.rows:
        print(f"this pyramid has no tiers; {ADD_TIERS}", file=sys.stderr)
    if table.left:
        print(f"clips wait: {table.left}; `ziggurat curate {table.pyramid} --fill` does it all", file=sys.stderr)


def why(found: History, as_json: bool) -> None:
    """Of `why.why`."""
    if as_json:
        videos = [
            {**row, "uncovered": [dataclasses.asdict(one) for one in _pieces(found, row)]} for row in found.videos
        ]
        for kind, rows in (("video", videos), ("clip", found.clips), ("caption", found.captions)):
            for row in rows:
                print(json.dumps({"kind": kind, **row}, default=str))
        return
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for row in found.videos:
        _tell_video(console, row)
        for piece in _pieces(found, row):
            frames = f"frames {piece.start_frame} to {'the end' if piece.end_frame is None else piece.end_frame}"
            console.print(f"  in no clip: {frames} ({piece.start_s:.3f} to {piece.end_s:.3f} s)")
    for row in found.clips:
        _tell_clip(console, row)
        for other in (one for one in found.captions if one["clip_id"] == row["clip_id"]):
            if not all(other[name] == row.get(column) for name, column in _IN_FORCE):
                console.print(f"  caption by {other['by']}, not in force: {_cell(other['caption'] or other['why'])}")
            if other["detail"]:
                console.print(f"    {_cell(other['detail'])}")
    if found.cut:
        console.print("more match; give a longer name")


def _pieces(found: History, video: Mapping[str, Any]) -> list[Piece]:
    """What of a video is in no clip; nothing is said where only some of its clips are known here."""
    clips = [row for row in found.clips if row["video_id"] == video["video_id"]]
    return uncovered(video, clips) if len(clips) == video["clips"] else []


def searching(as_json: bool) -> Callable[[str], AbstractContextManager[Any]]:
    """Shows a person what takes its time."""
    return (lambda what: nullcontext()) if as_json else Console(stderr=True, markup=False).status


def dry_run(found: DryRun, as_json: bool, out: TextIO) -> None:
    """Of `dry_run.dry_run`, to `out`."""
    _notes(found.notes)
    if as_json:
        print(json.dumps(found.as_data(), allow_nan=False), file=out)
        return
    console = Console(file=out, soft_wrap=True, markup=False)
    new = " (which is not there yet)" if found.is_new else ""
    console.print(f"nothing was done; into {found.pyramid}{new} by the recipe {found.recipe} would go", highlight=False)
    rows = [("inputs", _count(found.inputs)), ("settled already", _count(found.settled))]
    rows += [(f"no input, passed over: {kind}", _count(many)) for kind, many in found.passed_over.items()]
    rows += [(f"refused: {reason}", _count(count)) for reason, count in found.refused.items()]
    rows.append(("to be done", f"{_count(found.to_do)}, {_size(found.to_do_bytes)}"))
    if found.trial is not None:
        rows += _trial(found.trial)
    if (all_ := found.all_of_it) is not None:
        rows += [
            ("all of it may come to", f"{all_.source_hours:.3g} h of source video, {_count(all_.clips)} clips"),
            ("  of which are cut", f"{_count(all_.kept)} clips, {all_.kept_hours:.3g} h"),
            ("  on disk", _size(all_.disk_bytes)),
            ("  processor hours", f"{all_.cpu_hours:.3g}, on this machine {all_.hours:.3g} h"),
        ]
    rows += [
        (f"clips that are there: {what}", f"{_count(many)} to do, not reckoned") for what, many in found.waiting.items()
    ]
    table = Table(box=None, show_header=False, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _trial(trial: Probed) -> list[tuple[str, str]]:
    outcomes = ", ".join(f"{count} {what}" for what, count in trial.outcomes.most_common())
    spent = ", ".join(f"{stage} {seconds:.2g}" for stage, seconds in trial.cpu_s.items())
    return [
        ("tried", f"{trial.sources} of them, {_size(trial.bytes)}: {outcomes}"),
        ("  clips", f"{trial.clips}, {trial.kept} of them to be cut; {_size(trial.stored)} to be stored"),
        ("  failed", f"{trial.not_scored} scores, {trial.not_cut} cuts"),
        ("  processor seconds", spent or "none"),
    ]


def _count(number: int) -> str:
    return f"{number:,}"


def _size(size: float) -> str:
    """Bytes as a person reads them."""
    return filesize.decimal(round(size))


def _notes(notes: Sequence[str]) -> None:
    for one in notes:
        note(one)


def _saved(saved: Saved, as_json: bool) -> None:
    if saved.bytes is None:
        told = {"output": saved.output, "clips": saved.clips}
        print(json.dumps(told) if as_json else f"{saved.output}: {saved.clips} clips")
        return
    told = {"output": saved.output, "clips": saved.clips, "bytes": saved.bytes}
    print(json.dumps(told) if as_json else f"{saved.output}: {saved.clips} clips, {saved.bytes / 1e6:.1f} MB")
    if saved.missing:
        print(f"note: {saved.missing} clips of the query are not cut; see `ziggurat cut`", file=sys.stderr)


def _shown(answer: Answer) -> tuple[str, ...]:
    """The columns of a screen: of the pyramid's own scores those that the query asks for, and whose captions."""
    own = [score for score in answer.beside.scores if score not in SHOWN]
    captions = ("caption", "caption_by") if answer.by_makers else ()
    return (*SHOWN[:-1], *own, SHOWN[-1], *captions)


def _clips(answer: Answer) -> None:
    """A table; nothing but a line on standard error where no clip is found."""
    query, columns = answer.query, answer.columns or _shown(answer)
    shown = query.columns(*columns)
    most = TABLE_ROWS if query.rows is None else query.rows
    table = Table(box=None, pad_edge=False)
    for name in columns:
        text = name in (*TEXTS, *WORDED) or name in lineage.NAMES or name.endswith(("_by", "_why"))
        table.add_column(name, justify="left" if text else "right", overflow="fold", no_wrap=name == "clip_id")
    rows = 0
    for row in _rows(shown.limit(most)):
        rows += 1
        table.add_row(*(_cell(row[name]) for name in columns))
    if rows:
        Console(width=max(Console().width, 120, 13 * len(columns)), markup=False).print(table)
    total = query.limit(None).count()
    if not total and not answer.beside.absent:
        print("no clip is found", file=sys.stderr)
    if query.rows is None and total > rows:
        print(f"{rows} of {total} clips shown; more with --limit, all with --output", file=sys.stderr)


def _videos(found: Selection) -> None:
    shown = found if found.rows is not None else found.limit(TABLE_ROWS)
    table = Table(box=None, pad_edge=False)
    for name in shown.selected:
        table.add_column(name, overflow="fold", no_wrap=name == "video_id")
    rows = 0
    for row in (row for batch in shown.batches() for row in batch.to_pylist()):
        rows += 1
        table.add_row(*(_cell(row[name]) for name in shown.selected))
    Console(width=max(Console().width, 160), highlight=False, markup=False).print(table)
    if not rows:
        print("no video is found", file=sys.stderr)
    if (total := found.limit(None).count()) > rows:
        print(f"{rows} of {total} videos; more with --limit or --output", file=sys.stderr)


def _rows(found: Selection) -> Iterator[dict[str, Any]]:
    for batch in found.batches():
        yield from batch.to_pylist()


def _tiers(found: TierTable) -> None:
    before = {(one.tier, one.column): one for one in found.moved}
    for row in found.rows:
        title = f"{row.tier}: {row.clips} clips, {row.hours:.3f} hours ({row.share_clips:.0%} of clips)"
        table = Table(title=title, title_justify="left")
        for name in ("range", "drops alone", "no score", "drops after those above", "no score"):
            table.add_column(name, justify="left" if name == "range" else "right")
        for loss in row.losses:
            bounds = f"{loss.column} {shown(loss.range)}{_mark(before.get((row.tier, loss.column)), loss.range)}"
            table.add_row(bounds, str(loss.alone), _nulls(loss.alone_null), str(loss.after), _nulls(loss.after_null))
        if row.dropped:
            table.add_row("a person's word", "", "", str(row.dropped), "")
        Console(width=max(Console().width, 120), markup=False).print(table)
    gone = [one for one in found.moved if one.now is None]
    for one in gone:
        print(f"moved: {one.tier} has no range of its own for {one.column} now; the recipe has {shown(one.before)}")


def _mark(one: Moved | None, in_force: Bound) -> str:
    """That a threshold was moved, and where to if a tier below holds it back."""
    if one is None:
        return ""
    return f" (moved from {shown(one.before)}{'' if one.now == in_force else f' to {shown(one.now)}'})"


def _nulls(reasons: Mapping[str, int]) -> str:
    """Counts by reason, the most frequent ones; a user's own filter may give another for each clip."""
    ordered = sorted(reasons.items(), key=lambda pair: -pair[1])
    told = [f"{count} {printable(why)}" for why, count in ordered[:MOST_REASONS]]
    if rest := sum(count for _, count in ordered[MOST_REASONS:]):
        told.append(f"{rest} for other reasons")
    return ", ".join(told) or "0"


def _tell_video(console: Console, row: Mapping[str, Any]) -> None:
    console.print(_headed(f"video {row['video_id']}", f"  {row['status']}"))
    if row["reason"]:
        measured = "" if row["measured"] is None else f", measured {row['measured']:.6g}"
        console.print(f"  {row['reason']}: {REASONS[Reason(row['reason'])]}{measured}")
    if row["detail"]:
        console.print(f"  detail: {printable(row['detail'])}")
    for uri in row["uris"] or ():
        console.print(f"  {printable(uri)}")
    facts = ("duration_s", "fps", "width", "height", "codec", "profile", "bpp", "bytes", "clips")
    console.print("  " + ", ".join(f"{name} {_cell(row[name])}" for name in facts if row[name] not in (None, "")))
    console.print(
        f"  settled {row['finished_at']} by job {row['job']}, attempt {row['attempts']}, {row['fingerprint']}"
    )


def _headed(name: str, rest: str) -> Text:
    return Text(name, style="bold").append(Text(rest, style="not bold"))


def _tell_making(console: Console, row: Mapping[str, Any]) -> None:
    """What became of the source's pictures: how many of them, cropped, converted, and why no more."""
    taken = (row["end_frame"] or 0) - (row["start_frame"] or 0)
    said = [f"{row['frames']} frames from {taken} of the source"] if kind_of(row) == Kind.VIDEO else []
    if row["crop"]:
        said.append("crop {2}x{3} at {0},{1}".format(*row["crop"]))
    said += [row[name] for name in ("conversion",) if row[name]]
    if row["ended_by"]:
        said.append(f"ends by {row['ended_by']}")
    if said:
        console.print(f"  {', '.join(said)}")


def _tell_clip(console: Console, row: Mapping[str, Any]) -> None:
    size = f"{row['width']}x{row['height']}"
    if kind_of(row) == Kind.IMAGE:
        whole = " from {2}x{3}".format(*row["crop"]) if row["crop"] else ""
        console.print(_headed(f"image {row['clip_id']}", f"  {size}{whole}"))
        if row["conversion"]:
            console.print(f"  {row['conversion']}")
    else:
        where = f"frames {row['start_frame']} to {row['end_frame']}"
        place = f"  {row['start_s']:.3f} to {row['end_s']:.3f} s (shot {row['shot']}, {where}), {size}, "
        console.print(_headed(f"clip {row['clip_id']}", f"{place}{row['fps']:.5g} fps"))
        _tell_making(console, row)
    scores = scores_among(row.keys())
    width = max(map(len, scores), default=0)
    for score in scores:
        value, why, by = row[score], row[f"{score}_why"], row[f"{score}_by"]
        because = f"({_cell(why)})" if value is None and why else ""
        console.print(f"  {score:{width}} {_cell(value):>10}  {' '.join(filter(None, (by, because)))}")
    uncut = printable(f"not cut {row['media_why'] or ''}".strip())
    media = f"cut, sha256 {row['media']}" if row["media"] else uncut
    console.print(f"  tier {row['tier'] or 'none'}; {media}")
    if row.get("duplicate_of"):
        console.print(f"  a copy of {row['duplicate_of']}")
    if row.get("cluster") is not None:
        console.print(f"  of cluster {row['cluster']}")
    for said in of_people(row):
        console.print(f"  {printable(said)}")
    caption, by, why_not = (row.get(name) for name in ("caption", "caption_by", "caption_why"))  # an old pyramid's
    if caption is not None:
        console.print(f"  caption by {_cell(by)}: {_cell(caption)}")
    elif why_not is not None:
        console.print(f"  no caption by {_cell(by)} ({_cell(why_not)})")


def _cell(value: Any) -> str:
    """A value as it stands in a table."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return "\n".join(printable(str(one)) for one in value)
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))
