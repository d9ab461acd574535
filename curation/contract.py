"""The types and Arrow schemas that every part of Ziggurat agrees on.

This is the leaf of the import graph: it imports pyarrow and nothing of ours. The way of the data, in these names:

    Source -> RawVideo -> Facts -> Clip -> rows of `videos`, `clips`, `samples`, `media`

Every input ends in exactly one of: done (its clips), `Rejected` by a rule, or `Quarantined` because it could not be
judged. A score that was not computed is null and says why; it is never a number.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

FORMAT_VERSION = 2
"""Version of a pyramid on disk. A newer one is refused; an older one is read, and the first commit raises its version.
2: rows of `clips` and `videos` are written by `pyramid.upsert`, which must never meet the `merge_insert` of version 1.
"""

OWN_SCORES_VERSION = 3
"""Version of a pyramid that has scores of its own (`pyramid.about.About.scores`); all others stay at version 2."""

SCORES = ("motion", "sharpness", "jitter", "text_area", "aesthetic")
"""The score columns of every pyramid, in order of cost: the first three come with the measuring pass."""

FRAME_SCORES = ("motion", "sharpness", "jitter")
EMBEDDING_WIDTH = 768
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
    LOW_BPP = "low_bits_per_pixel"
    LOW_FPS = "low_fps"
    BAD_ASPECT = "bad_aspect"
    BANNED_PROFILE = "banned_profile"
    INTERLACED = "interlaced"
    HDR = "high_dynamic_range"
    NO_CLIP = "no_clip"

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

    @property
    def lost(self) -> bool:
        """Whether Ziggurat or its set-up has lost the video: no rule refused it, and its bytes are not to blame."""
        return BLAME[self] in (Blame.SETUP, Blame.OURS)


def loses(why: str) -> bool:
    """Whether a `media_why` or a `<score>_why` ("reason: detail") tells of a loss by Ziggurat or its set-up."""
    name = why.partition(":")[0]
    return name in _REASON_NAMES and Reason(name).lost


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

_REASON_NAMES = frozenset(str(reason) for reason in Reason)


class Blame(StrEnum):
    """Whose doing a reason is. What the set-up or Ziggurat has lost makes a run end with exit code 1."""

    RULE = "rule"
    DATA = "data"
    SETUP = "set-up"
    OURS = "Ziggurat"


_ABOUT: Mapping[Reason, tuple[Blame, str]] = {
    Reason.EMPTY: (Blame.DATA, "the file has zero bytes"),
    Reason.NOT_A_FILE: (Blame.DATA, "a pipe, device or folder, not a file with an end"),
    Reason.NOT_MEDIA: (Blame.DATA, "no allowed demuxer knows these bytes"),
    Reason.FORBIDDEN_FORMAT: (Blame.RULE, "a playlist or a reference to other files"),
    Reason.UNSUPPORTED_FORMAT: (Blame.RULE, "a container that Ziggurat does not take"),
    Reason.OUTSIDE: (
        Blame.RULE,
        "a name or a link that leads out of the folder that was named, or where names may not lead",
    ),
    Reason.NO_VIDEO: (Blame.DATA, "the container holds no video stream"),
    Reason.UNSUPPORTED_CODEC: (Blame.RULE, "no decoder for this codec, or no conversion of its pictures, is built in"),
    Reason.NO_FRAMES: (Blame.DATA, "not one frame could be decoded"),
    Reason.BROKEN: (
        Blame.DATA,
        "damaged or cut short: too few of the announced frames can be decoded (measured: share decoded)",
    ),
    Reason.BAD_TIMESTAMPS: (Blame.DATA, "frames without an order in time (measured: share of frames affected)"),
    Reason.TOO_MANY_PIXELS: (Blame.RULE, "frames larger than the sandbox decodes (measured: pixels)"),
    Reason.TOO_SHORT: (Blame.RULE, "shorter than the rule's minimum (measured: seconds)"),
    Reason.LOW_BPP: (Blame.RULE, "fewer bits per pixel than the rule's minimum (measured: bits per pixel)"),
    Reason.LOW_FPS: (Blame.RULE, "fewer frames per second than the rule's minimum (measured: fps)"),
    Reason.BAD_ASPECT: (Blame.RULE, "width / height outside the rule's range (measured: width / height)"),
    Reason.BANNED_PROFILE: (Blame.RULE, "an H.264 profile that the rules drop"),
    Reason.INTERLACED: (
        Blame.RULE,
        "pictures of two fields, and the recipe rejects them (measured: share of combed frames)",
    ),
    Reason.HDR: (Blame.RULE, "high dynamic range, and the recipe rejects it"),
    Reason.NO_CLIP: (Blame.RULE, "no shot is long enough for a clip (measured: longest shot in seconds)"),
    Reason.OTHER_FRAMES: (Blame.OURS, "decoding again gave other frames than were measured"),
    Reason.UNREADABLE: (Blame.SETUP, "the bytes could not be read (permission, network, changed while reading)"),
    Reason.CRASHED: (Blame.DATA, "the decoder's process died by a signal (measured: signal number)"),
    Reason.TIMED_OUT: (Blame.DATA, "no progress within the limit (measured: seconds)"),
    Reason.CPU_LIMIT: (Blame.DATA, "used up its CPU seconds (measured: seconds)"),
    Reason.MEMORY_LIMIT: (Blame.DATA, "used up its memory (measured: megabytes)"),
    Reason.WORKER_LOST: (Blame.SETUP, "the worker was lost each time it was tried (measured: attempts)"),
    Reason.INTERNAL: (Blame.OURS, "a fault of Ziggurat: the detail holds where"),
}
REASONS: Mapping[Reason, str] = {reason: text for reason, (_, text) in _ABOUT.items()}
"""One line each, shown by `ziggurat why` and in docs/reasons.md."""

BLAME: Mapping[Reason, Blame] = {reason: blame for reason, (blame, _) in _ABOUT.items()}
"""Bytes that crash a decoder or eat its limits are to blame themselves: the limits are there for them. A file that
cannot be read and a worker that is lost again and again are the set-up's; frames that come out otherwise are ours."""


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
    90, 180 or 270 degrees clockwise, after mirroring it left to right where it is `mirrored`.
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
    fps: float
    variable_rate: bool
    duration_s: float
    frames: int
    bit_rate: float

    @property
    def bpp(self) -> float:
        """Bits per displayed pixel and frame (report, section 2.1.1)."""
        return self.bit_rate / (self.width * self.height * self.fps)

    @property
    def aspect(self) -> float:
        return self.width / self.height


@dataclass(frozen=True, slots=True)
class Crop:
    """The part of the coded picture inside the black borders, in coded pixels; all four numbers are even."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A piece of one shot. Source frames `start_frame` up to `end_frame` (exclusive), in the order shown, from 0.

    `start_s` and `end_s` count from the source's first frame; `key_s` is where a decoder must start to reach the clip.
    `width`, `height`, `fps`, `frames`: as encoded. `first_check`, `last_check`, `all_check`: what the pictures that it
    was measured on were (see `media.frames.checksum`); the cutting pass must meet them. `ended_by`: an `Ending`.
    `conversion`: what was done to its light and fields, None where nothing was.
    """

    shot: int
    start_s: float
    end_s: float
    start_frame: int
    end_frame: int
    key_s: float
    crop: Crop
    width: int
    height: int
    fps: float
    frames: int
    ended_by: Ending
    first_check: int
    last_check: int
    all_check: int
    conversion: str | None = None


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


CLIPS = pa.schema(
    [
        _key("clip_id"),
        pa.field("video_id", pa.string()),
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
        pa.field("embedding", pa.list_(pa.float16(), EMBEDDING_WIDTH)),
        pa.field("caption", pa.string()),
        pa.field("caption_model", pa.string()),
        pa.field("duplicate_of", pa.string()),
        pa.field("cluster", pa.int32()),
        pa.field("tier", pa.string()),
        pa.field("media", pa.string()),
        pa.field("media_why", pa.string()),
    ]
)
"""Small and hot: scores, captions, embedding, lineage. `media` is the SHA-256 of the encoded clip, null until cut.

`plan`: fingerprint of the plan it was measured under. `ended_by`: an `Ending`. `conversion`: what was done to its light
and fields ("tone-mapped from smpte2084", "deinterlaced tff"), null where nothing was. `first_check`, `last_check`:
checksums of its first and last source frame as decoded; `all_check`: of all of them (see `media.frames.checksum`).
Where cutting failed, `media_why` is the reason. A score is null until its stage has run, and `<score>_why` says why."""


def scores_among(columns: Collection[str]) -> list[str]:
    """The scores among some columns of clips, in their order: what has a maker and a reason beside it."""
    return [name for name in columns if f"{name}_by" in columns and f"{name}_why" in columns]


def clips_schema(scores: Sequence[str] = ()) -> pa.Schema:
    """The columns of `clips` in a pyramid that has these scores of its own."""
    return pa.schema([*CLIPS, *(field for score in scores for field in score_fields(score))]) if scores else CLIPS


SAMPLES = pa.schema([_key("clip_id"), pa.field("frames", pa.list_(pa.binary()))])
"""First, middle and last frame of every measured clip as JPEG: what OCR and CLIP see, and what a person looks at."""

BLOB_FIELD = "video"
MEDIA_PLAIN = (pa.field("bytes", pa.int64()), pa.field("sha256", pa.string()))
"""Columns of `media` beside `clip_id` and the blob `video`, whose Arrow type is Lance's (see `pyramid.media`)."""
