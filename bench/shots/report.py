"""The text of `docs/shots.md`: tables of the outcomes that `measured` has, and what they mean."""

from collections.abc import Sequence
from datetime import UTC, datetime

from bench.shots.measured import (
    PLAIN,
    RADII,
    THRESHOLDS,
    TOLERANCE,
    Decoded,
    Grid,
    Labelled,
    Outcome,
    judge,
    leave_one_out,
    pool,
)
from curation.media.shots.base import Boundary
from curation.media.shots.scene_rule import SceneRule
from curation.media.shots.table import SEEKING

ROWS = {
    "plain": f"scene score >= {PLAIN}",
    "scene": "**the rule (`scene`, default)**",
    "content": "PySceneDetect ContentDetector, defaults (`content`)",
    "adaptive": "PySceneDetect AdaptiveDetector, defaults (`adaptive`)",
    "transnet": "TransNetV2 (`transnet`)",
}
NOT_MEASURED = "not measured"
assert set(SEEKING) < set(ROWS), "every detector has a row"

Outcomes = dict[str, list[Outcome]]

# What a look at the pictures shows, for frames that the rule gets wrong by the labels.
_TEARS = "shared-assets__tears-of-steel-battle-clip-medium.webm"
SEEN = {
    (_TEARS, 1472): "out of gunfire that flickers as strongly",
    (_TEARS, 1665): "an explosion",
}

TEXT = """# Where shots end

Written by `python -m bench.shots --videos DIR --labels CSV --out docs/shots.md` on {date}: {files}
files, {frames} frames, {cuts} labelled hard cuts, {spans} labelled fades and dissolves.

## The scores
`curation/media/shots/scene_score.py`: `mafd` is the mean absolute difference of a frame's luma from the frame
before, in percent of 256; the scene score is `min(mafd, |mafd - previous mafd|)`. It equals
libavfilter's `scdet`, at the video's own size. The same is taken of a thumbnail of 48x27 pixels: of its
luma, in which motion shows little, and of its colour (U and V added). The highest of the three counts. All
of it costs 0.20 ms a frame at 720p, of which `scdet`'s own difference is 0.08; the rule takes 0.01 ms more.

## The rule
`curation/media/shots/scene_rule.py`, `SceneRule`: a frame begins a new shot when

    score - median(scores of the {radius} frames on each side) >= {threshold:g}

no frame within {radius} stands out more, and another picture follows it. The report cuts where "the change
in scene scores exceeds an empirically determined threshold": this is that change, against a level that a
single outlier cannot move. A plain threshold has to stay above the scores of action and stop motion (6 to 9
here) and so loses cuts between similar pictures (6 to 10); against the local level most of the two are told
apart. The thumbnails of the few frames that stand out then say what follows:

- **Repeated pictures** (animation on twos or threes, film in 60 frames, doubled frames) are no level. Where
  there are any, the change must also stand out from the changes of the nearest {radius} new pictures on each
  side.
- **Mixed frames.** One or two frames that mix the pictures on both sides (frame rate converters leave them)
  belong to no shot. Where each step is small, the pictures before and after them are compared.
- **Flashes.** When a picture from before is back within three frames, of any colour, that was no cut.
- **Motion.** A picture whose blocks are all found in the one before it, moved, begins no shot.
- **Rates.** The radius is in frames at every rate: the level is local. What lasts in time is counted in frames
  at 30 a second and grows with the rate: a flash, and how far new pictures are looked for among repeated ones
  (12 frames, 48 at most). So the same content is cut alike from 12 to 240 frames a second, filmed at that rate
  or repeated from 12 or 24.

The answer comes 14 frames later up to 45 frames a second, at most 50 at higher rates.

What it cannot do: of two cuts within {radius} frames only the stronger is told; a picture that is shown for
three frames or fewer between two of another shot passes as a flash; a bright explosion, or light that comes
on and stays for more than three frames, is taken for a cut; a dissolve or fade of more than two mixed frames
passes as part of a shot, see the last two columns. TransNetV2 gives those their length, for about 20 ms of
one CPU core a frame.

## No detector
`detector = "none"` takes the whole of a source for one shot, for clips that are cut already.

## Result
A boundary within {tolerance} frames of a labelled cut is a hit; one that touches a labelled gradual
span and hits no cut counts neither for nor against. *Mixed ends*: first or last frames of shots of 2 s
and more that lie in a gradual span, the begin and the end of the file included ({free} do with no
detector at all, in files that begin or end in a fade). *Mixed clips*: shots of 2 s and more that hold
any frame of such a span.

{table}

PySceneDetect's rows are its own classes on whole frames in BGR, made 256 wide as its own pipeline does;
TransNetV2 gets the 48x27 pictures that the measuring pass makes.
TransNetV2 does cut at transitions, so more of its ends lie near one; a mixed end of a detected transition
is a few frames off the labelled edge, which was set by eye.

The rule with its parameters chosen on all other files and judged on the file left out, pooled: {loo}.
Candidates were the pairs of the next table. Many are equally good; the lowest threshold is taken, then
the smallest radius, because a missed cut spoils a clip and a false one only shortens it. The other way
round, with the highest threshold taken: {loo_highest}. One file holds more than half of the cuts, and
the others leave the threshold open between 6 and 10.

## How much the parameters matter
F1 of the rule on all files; the default is bold.

{grid}

## By file
Misses/false alarms; files without either are left out.

{by_file}

What the rule misses by the labels: {misses}. What it invents by the labels: {alarms}.
"""


def report(labels: Sequence[Labelled], files: Sequence[Decoded], grid: Grid) -> str:
    outcomes = _outcomes(labels, files)
    whole_files = pool(judge(label, file, []) for label, file in zip(labels, files, strict=True))
    rule = SceneRule()
    return TEXT.format(
        date=datetime.now(UTC).date(),
        files=len(files),
        frames=f"{sum(len(file.frames) for file in files):,}",
        cuts=sum(len(label.cuts) for label in labels),
        spans=sum(len(label.spans) for label in labels),
        radius=rule.radius,
        threshold=rule.threshold,
        tolerance=TOLERANCE,
        free=whole_files.mixed_ends,
        table=_table(outcomes),
        loo=_ratios(leave_one_out(grid)),
        loo_highest=_ratios(leave_one_out(grid, max)),
        grid=_sensitivity(grid, (rule.threshold, rule.radius)),
        by_file=_by_file(labels, outcomes),
        misses=_frames(labels, outcomes["scene"], "misses"),
        alarms=_frames(labels, outcomes["scene"], "alarms"),
    )


def _outcomes(labels: Sequence[Labelled], files: Sequence[Decoded]) -> Outcomes:
    outcomes: Outcomes = {name: [] for name in ROWS if name == "plain" or name in files[0].found}
    for label, file in zip(labels, files, strict=True):
        plain = [Boundary(frame, frame) for frame, seen in enumerate(file.frames) if seen.score >= PLAIN]
        for name in outcomes:
            outcomes[name].append(judge(label, file, plain if name == "plain" else file.found[name]))
    return outcomes


def _ratios(outcome: Outcome) -> str:
    return f"precision {outcome.precision:.3f}, recall {outcome.recall:.3f}, **F1 {outcome.f1:.3f}**"


def _table(outcomes: Outcomes) -> str:
    head = ("detector", "precision", "recall", "F1", "misses", "false alarms", "mixed ends", "mixed clips")
    rows = []
    for name, title in ROWS.items():
        if name not in outcomes:
            rows.append((title, *[NOT_MEASURED] * (len(head) - 1)))
            continue
        all_ = pool(outcomes[name])
        ratios = (f"{all_.precision:.3f}", f"{all_.recall:.3f}", f"{all_.f1:.3f}")
        counts = (len(all_.misses), len(all_.alarms), all_.mixed_ends, all_.mixed_clips)
        rows.append((title, *ratios, *counts))
    return _markdown(head, rows)


def _sensitivity(grid: Grid, default: tuple[float, int]) -> str:
    rows = []
    for threshold in THRESHOLDS:
        cells = [f"{pool(grid[threshold, radius]).f1:.3f}" for radius in RADII]
        marked = [
            f"**{cell}**" if (threshold, radius) == default else cell for cell, radius in zip(cells, RADII, strict=True)
        ]
        rows.append((f"{threshold:g}", *marked))
    return _markdown(("threshold", *(f"radius {radius}" for radius in RADII)), rows)


def _by_file(labels: Sequence[Labelled], outcomes: Outcomes) -> str:
    rows = []
    for index, label in enumerate(labels):
        each = [outcomes[name][index] for name in outcomes]
        if any(outcome.misses or outcome.alarms for outcome in each):
            cells = [f"{len(outcome.misses)}/{len(outcome.alarms)}" for outcome in each]
            rows.append((label.name, len(label.cuts), *cells))
    return _markdown(("file", "cuts", *outcomes), rows)


def _frames(labels: Sequence[Labelled], outcomes: Sequence[Outcome], which: str) -> str:
    parts = [
        f"frame {frame} of {label.name}" + (f" ({seen})" if (seen := SEEN.get((label.name, frame))) else "")
        for label, outcome in zip(labels, outcomes, strict=True)
        for frame in getattr(outcome, which)
    ]
    return "; ".join(parts) or "nothing"


def _markdown(head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
