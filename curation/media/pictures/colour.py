"""What the numbers of a decoded frame mean as colours: its primaries, transfer, matrix and range, as we believe them.

`light_of` reads a frame's tags and fills what they leave out as players do; `Light.shown` is what the clip made of it
says about itself; `refusal` is the recipe's word on HDR. `convert.py` changes the pixels. Numbers are libav's (those of
ITU-T H.273).

A tag that is missing is decided by the size of the *source* (mpv's rule): above 576 lines or from 1280 columns on
BT.709, else BT.601 with the primaries of its line count. It is then written into the clip, for a clip may be so much
smaller that a player would decide otherwise.

Tags lie: a transfer of PQ or HLG is believed from 10 bits on only. In 8 bits PQ would show bands everywhere; what is
tagged so is SDR with a wrong tag, and its primaries are not believed either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import av

from curation.contract import Reason, Verdict

BT709, UNSPECIFIED, BT470BG, SMPTE170M, BT2020 = 1, 2, 5, 6, 9
BT2020_10, PQ, HLG = 14, 16, 18
LIMITED, FULL = 1, 2
DISPLAY_P3 = frozenset({11, 12})
WIDE = DISPLAY_P3 | {BT2020}
"""Primaries that reach outside BT.709: SMPTE 431 and 432 (P3) and BT.2020."""

_RGB, _RESERVED, _ICTCP, _IPT = 0, 3, 14, 15
_UNTOLD = (0, UNSPECIFIED, _RESERVED)
HDR = {PQ: "smpte2084", HLG: "arib-std-b67"}
GAMUTS = {BT2020: "bt2020", 11: "smpte431", 12: "smpte432"}
_OF_MATRIX = {BT709: (BT709, BT709), BT470BG: (BT470BG, SMPTE170M), SMPTE170M: (SMPTE170M, SMPTE170M)}
_OF_MATRIX |= {BT2020: (BT2020, BT2020_10), 10: (BT2020, BT2020_10), 7: (7, 7)}
"""Primaries and transfer that go with a matrix."""

_FULL_FORMATS = ("gray", "ya", "yuvj", "mono")


class Tagged(Protocol):
    """A codec context, or whatever else carries these four."""

    @property
    def color_primaries(self) -> int: ...
    @property
    def color_trc(self) -> int: ...
    @property
    def colorspace(self) -> int: ...
    @property
    def color_range(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Tags:
    """Tags that nobody changes any more; as they are by default they say nothing."""

    color_primaries: int = UNSPECIFIED
    color_trc: int = UNSPECIFIED
    colorspace: int = UNSPECIFIED
    color_range: int = 0

    @classmethod
    def of(cls, tagged: Tagged) -> Tags:
        """The tags that something carries now."""
        return cls(tagged.color_primaries, tagged.color_trc, int(tagged.colorspace), int(tagged.color_range))


NO_TAGS = Tags()


@dataclass(frozen=True, slots=True)
class Light:
    """Primaries, transfer, matrix and range of pictures, none unspecified. `rgb`: not YUV yet, so without a matrix.

    For RGB `matrix` is the one that it gets. `depth` is in bits.
    """

    primaries: int
    transfer: int
    matrix: int
    range: int
    depth: int = 8
    rgb: bool = False

    @property
    def hdr(self) -> bool:
        """Whether it is HDR10 or HLG."""
        return self.transfer in HDR

    @property
    def mapped(self) -> str | None:
        """The name of what its colours are mapped to BT.709 from: a transfer (HDR) or primaries; None: they stay."""
        return HDR.get(self.transfer) or GAMUTS.get(self.primaries)

    @property
    def shown(self) -> Light:
        """The light of the 8-bit 4:2:0 picture that is made of it."""
        if self.mapped:
            return Light(BT709, BT709, BT709, LIMITED)
        return replace(self, depth=8, rgb=False, range=LIMITED if self.rgb else self.range)


def light_of(frame: av.VideoFrame, container: Tagged = NO_TAGS) -> Light:
    """The light of a decoded frame; what its tags leave out is the container's, then decided as the module says.

    `container`: what the container alone says (`probe.container_tags`), never a decoder's context: a decoder writes
    there what the stream says, "unspecified" too.
    """
    depth = max(component.bits for component in frame.format.components)
    rgb = is_rgb(frame)
    primaries, transfer, matrix = frame.color_primaries, frame.color_trc, frame.colorspace
    range_ = _range_of(frame, container)
    primaries = container.color_primaries if primaries in _UNTOLD else primaries
    transfer = container.color_trc if transfer in _UNTOLD else transfer
    matrix = container.colorspace if matrix in _UNTOLD else matrix
    if rgb:
        range_ = FULL
    elif range_ not in (LIMITED, FULL):
        range_ = FULL if frame.format.name.startswith(_FULL_FORMATS) else LIMITED
    return _believed(Light(primaries, transfer, matrix, range_, depth, rgb), frame.width, frame.height)


def _range_of(frame: av.VideoFrame, container: Tagged) -> int:
    """The frame's range, else the container's. Decoders of HEVC, AV1 and VP9 say "limited" where the stream says
    nothing at all: then the container knows better.
    """
    silent = all(tag in _UNTOLD for tag in (frame.color_primaries, frame.color_trc, frame.colorspace))
    supposed = silent and frame.color_range == LIMITED and container.color_range == FULL
    return container.color_range if supposed or frame.color_range not in (LIMITED, FULL) else frame.color_range


def is_rgb(frame: av.VideoFrame) -> bool:
    """Whether a frame holds RGB: packed, planar, by a palette, or XYZ (which libswscale turns into RGB)."""
    form = frame.format
    return form.is_rgb or form.has_palette or form.name.startswith("xyz")


def _believed(light: Light, width: int, height: int) -> Light:
    primaries, transfer, matrix = light.primaries, light.transfer, light.matrix
    lies = light.depth < 10 and transfer in HDR
    if lies:
        primaries, transfer = BT709, BT709
    if light.rgb or matrix in _UNTOLD:
        wide = not light.rgb and (primaries == BT2020 or transfer in HDR)
        matrix = BT2020 if wide else _by_size(width, height)
    usual = _OF_MATRIX.get(matrix, (BT709, BT709))
    if transfer in _UNTOLD:
        transfer = usual[1]
    if primaries in _UNTOLD:
        primaries = BT2020 if transfer in HDR else usual[0]
    return replace(light, primaries=primaries, transfer=transfer, matrix=matrix)


def _by_size(width: int, height: int) -> int:
    """The matrix of pictures that do not say it, or that have none yet."""
    if height > 576 or width >= 1280:
        return BT709
    return BT470BG if height == 576 else SMPTE170M


def tag(frame: av.VideoFrame, light: Light) -> av.VideoFrame:
    """The frame itself, with the tags of `light`. No pixel is touched."""
    frame.color_primaries, frame.color_trc = light.primaries, light.transfer
    frame.colorspace, frame.color_range = light.matrix, light.range
    return frame


def copy_tags(source: Tagged, target: av.VideoFrame | av.VideoCodecContext) -> None:
    """Give `target` the colour tags of `source`."""
    target.color_primaries, target.color_trc = source.color_primaries, source.color_trc
    target.colorspace, target.color_range = source.colorspace, source.color_range


def refusal(light: Light, hdr: Literal["tonemap", "reject"]) -> Verdict | None:
    """The verdict on a source of this light under the recipe's `clips.hdr`; None where it may pass.

    HDR in ICtCp or IPT is refused either way: libswscale has no conversion for these.
    """
    if light.hdr and hdr == "reject":
        return Verdict(Reason.HDR, detail=HDR[light.transfer])
    if light.matrix in (_ICTCP, _IPT):
        return Verdict(Reason.HDR, detail="colours in ICtCp or IPT cannot be converted")
    return None
