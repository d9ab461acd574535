"""Breaks before a packet: where pictures are missing that it may be predicted from, or another stream's stand in their
place.

Feeds `suspicion` with what no decoder tells, for both passes (`frames`): joins and holes of the clock (`timeline`), the
numbers of H.264 (`frame_num`), the time codes of MPEG-2 (`groups`). Nothing is taken after a break until a clean start,
and what is shown before that start is left out, for it may refer back.
"""

from __future__ import annotations

from av.packet import Packet

from curation.media.stream.breaks.groups import CODECS, Groups
from curation.media.stream.frame_num import FrameNumbers
from curation.media.stream.parts import spot_of
from curation.media.stream.timeline import Timeline


class Losses:
    """Follows the packets of one stream, from the beginning or from where a seek leads."""

    def __init__(self, codec: str, extradata: bytes | None, timeline: Timeline) -> None:
        self._timeline = timeline
        self._numbers = FrameNumbers(extradata) if codec == "h264" else None
        self._groups = Groups() if codec in CODECS else None

    @property
    def half(self) -> bool:
        """Whether the packet before the last one held a field whose other field is missing."""
        return self._numbers is not None and self._numbers.half

    def before(self, packet: Packet) -> bool:
        """Whether the material breaks before this packet."""
        if not packet.size:
            return False
        content = memoryview(packet)  # pyright: ignore[reportArgumentType]
        told = self._groups is not None and self._groups.breaks(content)
        if self._numbers is not None:
            new = packet.get_sidedata("new_extradata") if packet.has_sidedata("new_extradata") else None
            told = self._numbers.gap(content, bytes(new) if new is not None else None)
        return told or self._clock_breaks(packet)

    def _clock_breaks(self, packet: Packet) -> bool:
        if packet.pts is None and packet.dts is None:
            return False
        spot = spot_of(packet)
        if spot in self._timeline.entries:
            return True
        missing = self._timeline.holes.get(spot, 0)
        return missing > 0 and not (self._numbers is not None and missing < self._numbers.cycle)
