"""Which decoded pictures damage may have reached: they are not handed out.

A decoder marks the picture hit only, and says nothing of those that it predicts from it; some decoders mark nothing and
fail at a later packet; what is lost between packets only `frame_num` tells. So suspicion begins with a packet, in the
order of decoding, and ends with the next clean start. Used by the decoder of both passes (`frames`).
"""

from __future__ import annotations

from dataclasses import dataclass

import av
from av.packet import Packet

from curation.media.stream.timeline import Timeline

_IN_FLIGHT = 128
"""Packets remembered until their pictures come: more than any codec reorders."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A packet that went into the decoder: its place in that order, whether it is a key packet, and the sample aspect
    ratio that held then.
    """

    order: int
    key: bool
    sar: float


class Suspicion:
    """Follows packets into the decoder and judges the pictures that come out."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._in_flight: dict[int, Sent] = {}
        self._order = 0
        self._from: float | None = None
        self._clean_at = 0

    def send(self, packet: Packet, sar: float, after: int, gap: bool = False, half: bool = False) -> None:
        """A packet has gone in; `after`: the last picture shown so far. A demuxer's mark makes it suspicious.

        So do a field whose other field is not in the file, and a `gap` of reference pictures before it, unless it is a
        clean start itself. `half`: the packet before it held a field whose other field is missing.
        """
        self._order += 1
        if packet.pts is not None:
            self._in_flight[packet.pts] = Sent(self._order, packet.is_keyframe, sar)
        if len(self._in_flight) > _IN_FLIGHT:
            del self._in_flight[next(iter(self._in_flight))]
        if packet.is_corrupt or packet.pts in self._timeline.halves:
            self._begin(self._order, after)
        elif half:
            self._begin(self._order - 1, after)
        elif gap:
            self._begin(self._order - 0.5, after)

    def fail(self, after: int) -> None:
        """The decoder has refused a packet: the one before it may have been hit without a word."""
        self._begin(self._order, after)
        self._order += 1

    def land(self, frame: av.VideoFrame) -> Sent | None:
        """What is known of the packet of a picture; None for one without a timestamp."""
        return self._in_flight.pop(frame.pts, None) if frame.pts is not None else None

    def is_sound(self, frame: av.VideoFrame, index: int, sent: Sent | None) -> bool:
        """Whether picture `index` is neither hit nor predicted from one that is."""
        order = sent.order if sent is not None else self._order
        # The picture after a lone key field is said to be a key one, too: its packet must be one.
        key = frame.key_frame and (sent is None or sent.key)
        if frame.is_corrupt:
            self._begin(order, index)
        elif self._from is not None and (index >= self._clean_at or (key and order > self._from)):
            self._from = None
        return index >= self._timeline.led and (self._from is None or order < self._from)

    def _begin(self, order: float, after: int) -> None:
        self._from = order if self._from is None else min(order, self._from)
        self._clean_at = self._timeline.refreshed_after(max(0, after))
