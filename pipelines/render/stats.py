"""How the answer of `ziggurat stats` is shown: tables for people, one JSON object for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from curation.printable import printable
from curation.stats.report import Numbers, Stats, Values
from pipelines.commands.pyramid.stats import Answer
from pipelines.render.lines import line

_ROWS = 10
"""Of each list of counts; a figure and `stats.json` have more."""
_WORDS = 20
_QUANTILES = ("0.05", "0.5", "0.95")


def stats(answer: Answer, as_json: bool) -> None:
    """Of `stats.stats`."""
    if as_json:
        print(json.dumps(answer.stats.to_data()))
        return
    found = answer.stats
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.kinds.items()))
    line(f"{found.pyramid}: {found.clips:,} clips ({kinds or 'none'}), {found.hours:.2f} hours")
    if found.query:
        line(f"tier {found.tier or 'none'}: {'; '.join(found.query)}")
    console = Console(width=max(Console().width, 120), highlight=False, markup=False)
    console.print(_numbers(found.numbers))
    _captions(found, console)
    for title, counts in _lists(found):
        if counts.clips:
            console.print(_counts(title, counts))
    if answer.output is not None:
        line(f"{answer.output}: {', '.join(answer.files)}")


def _numbers(numbers: Mapping[str, Numbers]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for name in ("clips", "least", "5 %", "median", "95 %", "most", "mean"):
        table.add_column(name, justify="right")
    table.add_column("no value", overflow="fold")
    for name, one in numbers.items():
        quantiles = one.quantiles or {}
        values = (one.least, *(quantiles.get(share) for share in _QUANTILES), one.most, one.mean)
        shown = ("" if value is None else f"{value:.4g}" for value in values)
        why = ", ".join(f"{printable(why)} {count:,}" for why, count in list(one.missing.items())[:3])
        table.add_row(name, f"{one.count:,}", *shown, why)
    return table


def _captions(found: Stats, console: Console) -> None:
    captions = found.captions
    if not captions.clips:
        return
    words = ", ".join(f"{word} {count:,}" for word, count in list(captions.words.items())[:_WORDS])
    console.print(printable(f"words: {words}"))
    at_least = "" if captions.equal_are_exact else "at least "
    console.print(f"equal captions: {at_least}{captions.clips_alike:,} clips share {captions.texts:,} texts")


def _lists(found: Stats) -> list[tuple[str, Values]]:
    captions = found.captions
    repeated = {one.caption: one.clips for one in captions.commonest}
    return [
        ("captions by", captions.by),
        ("commonest captions", Values(repeated)),
        *((f"by {name}", values) for name, values in found.sources.items()),
        ("why clips end", Values(found.ended_by)),
        ("not cut", Values(found.not_cut)),
        ("clusters", found.named_clusters),
        ("videos of the whole pyramid", Values(found.videos)),
        ("why videos have no clips", Values(found.reasons)),
    ]


def _counts(title: str, counts: Values) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(title, overflow="ellipsis", no_wrap=True, max_width=100)
    table.add_column("", justify="right")
    shown = list(counts.clips.items())[:_ROWS]
    for value, count in shown:
        table.add_row(printable(value), f"{count:,}")
    if rest := sum(counts.clips.values()) + counts.other - sum(count for _, count in shown):
        table.add_row("all others" if counts.is_exact else "all others, and some of these", f"{rest:,}")
    return table
