"""Which decoded pictures damage may have reached: they are not handed out.

A decoder marks the picture hit only, and says nothing of those that it predicts from it; some decoders mark nothing and
fail at a later packet; of what is lost between packets, or joined, only `losses` tells. So suspicion begins with a
packet, in the order of decoding, and ends with the next clean start. A picture may be predicted from one that is shown
later, whose mark comes with it: it has to wait until all that was decoded before it has been shown. Used by the decoder
of both passes (`frames`).
"""

from __future__ import annotations

from dataclasses import dataclass

import av
from av.packet import Packet
from av.video.frame import PictureType

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


@dataclass(frozen=True, slots=True)
class _Hit:
    """Damage: what was decoded from place `order` on is suspicious, until picture `clean_at` or a key picture."""

    order: float
    clean_at: int


class Suspicion:
    """Follows packets into the decoder and judges the pictures that come out.

    Every picture is told to `land`, in the order shown, and judged by `is_sound`, in the same order, when `is_open` no
    longer holds for it or as many wait as `MOST_WAITING`.
    """

    MOST_WAITING = 16
    """What codecs reorder at most. A packet that gives no picture would else be waited for without end."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._in_flight: dict[int, Sent] = {}
        self._order = self._key_order = 0
        self._hits: list[_Hit] = []

    def send(self, packet: Packet, sar: float, after: int, breaks: bool = False, half: bool = False) -> None:
        """A packet has gone in; `after`: the last picture shown so far. A demuxer's mark makes it suspicious.

        So do a field whose other field is not in the file, and material that `breaks` before it (`losses`), unless it
        is a clean start itself. `half`: the packet before it held a field whose other field is missing.
        """
        self._order += 1
        if packet.is_keyframe:
            self._key_order = self._order
        if packet.pts is not None:
            self._in_flight[packet.pts] = Sent(self._order, packet.is_keyframe, sar)
        if len(self._in_flight) > _IN_FLIGHT:
            del self._in_flight[next(iter(self._in_flight))]
        marked = packet.is_corrupt and packet.pos not in self._timeline.sound
        if marked or packet.pts in self._timeline.halves:
            self._begin(self._order, after)
        elif half:
            self._begin(self._order - 1, after)
        elif breaks:
            self._begin(self._order - 0.5, after)

    def fail(self, after: int) -> None:
        """The decoder has refused a packet: the one before it may have been hit without a word."""
        self._begin(self._order, after)
        self._order += 1

    def land(self, frame: av.VideoFrame, after: int, hit: bool = False) -> Sent | None:
        """A picture is shown, `after` the last one: what is known of its packet; None where it has no timestamp.

        `hit`: it is damaged, whatever its decoder says.
        """
        sent = self._in_flight.pop(frame.pts, None) if frame.pts is not None else None
        if frame.is_corrupt or hit:
            self._begin(_order_of(sent, self._order), after + 1)
        return sent

    def is_open(self, frame: av.VideoFrame, sent: Sent | None, following: av.VideoFrame | None) -> bool:
        """Whether a picture may be predicted from one that is not shown yet. `following`: the last one that is, if any
        comes after it.
        """
        if sent is not None and frame.pts is not None and not self._timeline.by_order:
            pts, order = frame.pts, sent.order
            near = range(order - 2 * self.MOST_WAITING, order)
            return any(one.order in near and shown > pts for shown, one in self._in_flight.items())
        if frame.pict_type != PictureType.B:
            return False
        return following is None or following.pict_type == PictureType.B

    def is_sound(self, frame: av.VideoFrame, index: int, sent: Sent | None) -> bool:
        """Whether picture `index` is neither hit nor predicted from one that is."""
        order = _order_of(sent, self._order)
        # The picture after a lone key field is said to be a key one, too: its packet must be one.
        key = frame.key_frame and (sent is None or sent.key) and not frame.is_corrupt
        self._hits = [hit for hit in self._hits if not (index >= hit.clean_at or (key and order > hit.order))]
        led = index < self._timeline.led and not self._timeline.led_sound
        return not led and all(order < hit.order for hit in self._hits)

    def _begin(self, order: float, after: int) -> None:
        hit = _Hit(order, self._timeline.refreshed_after(max(0, after)))
        if self._hits and min(order, self._hits[-1].order) > self._key_order:  # no key picture comes between the two
            last = self._hits.pop()
            hit = _Hit(min(order, last.order), max(hit.clean_at, last.clean_at))
        self._hits.append(hit)


def _order_of(sent: Sent | None, last: int) -> int:
    """The place of a picture's packet in the order of decoding; the last one's where it is unknown."""
    return sent.order if sent is not None else last
