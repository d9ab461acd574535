"""The types and Arrow schemas that every part of Ziggurat agrees on.

This is the leaf of the import graph: it imports pyarrow, and of ours only the list of scores (`filters.table`) and the
spaces of vectors (`spaces`), which it passes on. The way of the data, in these names:

    Source -> RawVideo -> Facts -> Clip -> rows of `videos`, `clips`, `samples`, `media`, `captions`, `embeddings`

Every input ends in exactly one of: done (its clips), `Rejected` by a rule, or `Quarantined` because it could not be
judged. A score that was not computed is null and says why; it is never a number.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

from curation.filters.table import AMONG_OTHERS as AMONG_OTHERS
from curation.filters.table import CROWDING as CROWDING
from curation.filters.table import FILTERS, FRAME_SCORES
from curation.filters.table import LIKENESS as LIKENESS
from curation.spaces import CLIP_SPACE as CLIP_SPACE
from curation.spaces import SPACES as SPACES
from curation.spaces import Space as Space
from curation.spaces import embeddings_schema as embeddings_schema

FORMAT_VERSION = 4
"""Version of a new pyramid on disk. An older one is refused until `pyramid.lifecycle.migrate` has brought it here.
2: rows of `clips` and `videos` are written by `pyramid.commits.upsert`, which must never meet the `merge_insert` of
version 1. 3: scores of the pyramid's own. 4: vectors and captions in datasets of their own, `caption_by` and
`caption_why`.
"""
NEWEST_FORMAT = 5
"""The newest version that is worked on; one above is refused. 5 is what 4 becomes once it has spaces of its own
(`spaces`), whose vectors a version that knows none would leave behind when it takes a video down.
"""

SCORES = (*FRAME_SCORES, *(score for one in FILTERS for score in one.scores))
"""The score columns of every pyramid, in order of cost: the first come with the measuring pass."""

LAPLACIANS = 5


class Status(StrEnum):
    """What became of an input video."""

    DONE = "done"
    REJECTED = "rejected"
    QUARANTINED = "quarantined"


class Reason(StrEnum):
    """Why a video has no clips. The first group rejects (a rule decided), the second quarantines (no judgement)."""

    EMPTY = "empty"
    NOT_A_FILE = "not_a_file"
    NOT_MEDIA = "not_media"
    FORBIDDEN_FORMAT = "forbidden_format"
    UNSUPPORTED_FORMAT = "unsupported_format"
    OUTSIDE = "outside"
    NO_VIDEO = "no_video_stream"
    UNSUPPORTED_CODEC = "unsupported_codec"
    NO_FRAMES = "no_frames"
    BROKEN = "broken"
    BAD_TIMESTAMPS = "bad_timestamps"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_SHORT = "too_short"
    TOO_SMALL = "too_small"
    LOW_BPP = "low_bits_per_pixel"
    LOW_FPS = "low_fps"
    BAD_ASPECT = "bad_aspect"
    BANNED_PROFILE = "banned_profile"
    INTERLACED = "interlaced"
    HDR = "high_dynamic_range"
    NO_CLIP = "no_clip"
    TAKEN_DOWN = "taken_down"

    OTHER_FRAMES = "other_frames"
    UNREADABLE = "unreadable"
    CRASHED = "decoder_crashed"
    TIMED_OUT = "timed_out"
    CPU_LIMIT = "cpu_limit"
    MEMORY_LIMIT = "memory_limit"
    WORKER_LOST = "worker_lost"
    INTERNAL = "internal_error"

    @property
    def status(self) -> Status:
        return Status.QUARANTINED if self in _QUARANTINES else Status.REJECTED


_QUARANTINES = frozenset(
    {
        Reason.OTHER_FRAMES,
        Reason.UNREADABLE,
        Reason.CRASHED,
        Reason.TIMED_OUT,
        Reason.CPU_LIMIT,
        Reason.MEMORY_LIMIT,
        Reason.WORKER_LOST,
        Reason.INTERNAL,
    }
)


class Kind(StrEnum):
    """What an input is. An image is one picture: no motion, no jitter, no rate, no length."""

    VIDEO = "video"
    IMAGE = "image"


NOT_OF_IMAGES = ("motion", "jitter", "fps", "duration_s")
"""Columns of a clip that an image does not have: null, and a range over one says nothing of an image."""


class Ending(StrEnum):
    """Why a clip ends where it does (docs/clips.md). All but the first three are breaks of the material itself."""

    SHOT = "shot"
    LENGTH = "length"
    END = "end"
    GAP = "gap"
    RATE = "rate"
    SIZE = "size"
    JOIN = "join"
    DAMAGE = "damage"


@dataclass(frozen=True, slots=True)
class Source:
    """One entry of the input listing, before a byte of it is read. `modified` is seconds since the epoch, 0 unknown.

    `extra`: the further columns of the list that named it, one JSON object with sorted keys; "" where there are none.
    """

    uri: str
    bytes: int
    modified: float = 0.0
    extra: str = ""


@dataclass(frozen=True, slots=True)
class RawVideo:
    """A source whose content has been hashed: `video_id` is the same for the same bytes under any name."""

    video_id: str
    source: Source


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why there are no clips, with the number that decided it (None where none was measured)."""

    reason: Reason
    measured: float | None = None
    detail: str = ""

    @property
    def status(self) -> Status:
        return self.reason.status


@dataclass(frozen=True, slots=True)
class Facts:
    """What the container and its packets say. `width`, `height`: as displayed, after rotation and sample aspect.

    `fps`, `variable_rate` and `duration_s` come from packet timestamps and `bit_rate` from packet sizes, not from the
    header: `fps` is the rate of the longest stretch without a gap. `rotation` is what a player turns the picture by: 0,
    90, 180 or 270 degrees clockwise, after mirroring it left to right where it is `mirrored`. An image has no rate, no
    length and no bit rate: None. All its sizes are those of the upright picture.
    """

    container: str
    codec: str
    profile: str
    pix_fmt: str
    coded_width: int
    coded_height: int
    width: int
    height: int
    rotation: int
    mirrored: bool
    sar: float
    fps: float | None
    variable_rate: bool
    duration_s: float | None
    frames: int
    bit_rate: float | None

    @property
    def bpp(self) -> float | None:
        """Bits per coded pixel and frame (report, section 2.1.1): pixels that are no squares count as they are coded.
        None of an image, and where a damaged header gives no size.
        """
        pixels = self.coded_width * self.coded_height
        if self.bit_rate is None or not self.fps or not pixels:
            return None
        return self.bit_rate / (pixels * self.fps)

    @property
    def aspect(self) -> float:
        return self.width / self.height


@dataclass(frozen=True, slots=True)
class Crop:
    """The part of the coded picture inside the black borders, in coded pixels; of a video all four numbers are even. Of
    an image it is all of the upright picture.
    """

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A piece of one shot. Source frames `start_frame` up to `end_frame` (exclusive), in the order shown, from 0.

    `start_s` and `end_s` count from the source's first frame: when its first picture is shown, and when the one after
    its last is; `key_s` is where a decoder must start to reach the clip.
    `width`, `height`, `fps`, `frames`: as encoded. `first_check`, `last_check`, `all_check`: what the pictures that it
    was measured on were (see `media.frames.checksum`); the cutting pass must meet them. `ended_by`: an `Ending`.
    `conversion`: what was done to its light and fields, None where nothing was. `kind`: of an image, the whole picture
    is its one span, and it has no `end_s` and no `fps`.
    """

    shot: int
    start_s: float
    end_s: float | None
    start_frame: int
    end_frame: int
    key_s: float
    crop: Crop
    width: int
    height: int
    fps: float | None
    frames: int
    ended_by: Ending
    first_check: int
    last_check: int
    all_check: int
    conversion: str | None = None
    kind: Kind = Kind.VIDEO


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip(Span):
    """What is stored: a span that has a name."""

    clip_id: str
    video_id: str


def _key(name: str) -> pa.Field:
    # For those who write with Lance themselves: it keeps merge_insert unique only for a column marked so.
    return pa.field(name, pa.string(), nullable=False, metadata={"lance-schema:unenforced-primary-key": "true"})


VIDEOS = pa.schema(
    [
        _key("video_id"),
        pa.field("uris", pa.list_(pa.string())),
        pa.field("modified", pa.list_(pa.float64())),
        pa.field("status", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("measured", pa.float64()),
        pa.field("bytes", pa.int64()),
        pa.field("duration_s", pa.float64()),
        pa.field("fps", pa.float64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("codec", pa.string()),
        pa.field("profile", pa.string()),
        pa.field("bpp", pa.float64()),
        pa.field("clips", pa.int32()),
        pa.field("attempts", pa.int32()),
        pa.field("job", pa.string()),
        pa.field("fingerprint", pa.string()),
        pa.field("extra", pa.string()),
        pa.field("tried", pa.string()),
        pa.field("finished_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""The ledger: one row per content hash, written last. `uris` and `modified` run in parallel. `extra`: the columns of a
list that are the user's own, one JSON object. `fingerprint`: of the plan that it was settled under; `tried`: of the
attempt that could not judge it (`rows.attempt_fingerprint`), which for a video settled before was a later one."""


def score_fields(score: str) -> list[pa.Field]:
    """A score's value, how it was made (a fingerprint), and where it is null why."""
    return [
        pa.field(score, pa.float32()),
        pa.field(f"{score}_by", pa.string()),
        pa.field(f"{score}_why", pa.string()),
    ]


REVIEW = (
    *(pa.field(name, pa.string()) for name in ("decision", "decision_by", "decided_at", "tagged")),
    *(pa.field(name, pa.list_(pa.string())) for name in ("tagged_by", "tagged_at")),
)
"""What people say of a clip (`pyramid.review.words`). `decision`: null with a time where one was taken back. `tagged`:
sorted, with commas between, and whose each is in parallel. Times: UTC in ISO 8601, of one width; as text, for DuckDB
gives Python no time with a zone.
"""

CLIPS = pa.schema(
    [
        _key("clip_id"),
        pa.field("video_id", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("shot", pa.int32()),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("start_frame", pa.int64()),
        pa.field("end_frame", pa.int64()),
        pa.field("key_s", pa.float64()),
        pa.field("crop", pa.list_(pa.int32(), 4)),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("fps", pa.float64()),
        pa.field("frames", pa.int32()),
        pa.field("plan", pa.string()),
        pa.field("ended_by", pa.string()),
        pa.field("conversion", pa.string()),
        pa.field("first_check", pa.int64()),
        pa.field("last_check", pa.int64()),
        pa.field("all_check", pa.int64()),
        *(field for score in SCORES for field in score_fields(score)),
        pa.field("laplacian", pa.list_(pa.float32(), LAPLACIANS)),
        pa.field("caption", pa.string()),
        pa.field("caption_by", pa.string()),
        pa.field("caption_why", pa.string()),
        pa.field("duplicate_of", pa.string()),
        pa.field("cluster", pa.int32()),
        pa.field("tier", pa.string()),
        pa.field("media", pa.string()),
        pa.field("media_why", pa.string()),
        *REVIEW,
    ]
)
"""Small and hot: scores, the caption in force, lineage. `media` is the SHA-256 of the encoded clip, null until cut.

`plan`: fingerprint of the plan it was measured under. `ended_by`: an `Ending`. `conversion`: what was done to its light
and fields ("tone-mapped from smpte2084", "deinterlaced tff"), null where nothing was. `first_check`, `last_check`:
checksums of its first and last source frame as decoded; `all_check`: of all of them (see `media.frames.checksum`).
Where cutting failed, `media_why` is the reason. A score is null until its stage has run, and `<score>_why` says why.
`caption_by`: the maker of the caption, "given" where a list brought it; `caption_why`: why a maker gave none. `kind`: a
`Kind`; null, as in rows from before there were images, is a video. The last ones are people's: see `REVIEW`."""


BEFORE_FORMAT_4 = ("embedding", "caption_model")
"""Columns of `clips` in older pyramids; no score may be called so."""


def scores_among(columns: Collection[str]) -> list[str]:
    """The scores among some columns of clips, in their order: what has a maker and a reason beside it."""
    beside = (name for name in columns if f"{name}_by" in columns and f"{name}_why" in columns)
    return [name for name in beside if name != "caption"]


def clips_schema(scores: Sequence[str] = ()) -> pa.Schema:
    """The columns of `clips` in a pyramid that has these scores of its own."""
    return pa.schema([*CLIPS, *(field for score in scores for field in score_fields(score))]) if scores else CLIPS


SAMPLES = pa.schema([_key("clip_id"), pa.field("frames", pa.list_(pa.binary()))])
"""First, middle and last frame of every measured clip as JPEG, of an image the one there is: what OCR and CLIP see, and
what a person looks at."""

GIVEN = "given"
"""The maker of a caption that came with the list."""

CAPTIONS = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("by", pa.string(), nullable=False),
        pa.field("caption", pa.string()),
        pa.field("why", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("made_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""What every model said of a clip, with its `detail`, and every caption that has given way to another: `clips.caption`
has the one in force. `why`: where `caption` is null; `detail`: what else its maker says, one JSON object; `made_at`:
null where unknown."""


BLOB_FIELD = "video"
MEDIA_PLAIN = (pa.field("bytes", pa.int64()), pa.field("sha256", pa.string()))
"""Columns of `media` beside `clip_id` and the blob `video`, whose type is Lance's (`pyramid.storage.datasets`)."""
