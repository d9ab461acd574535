"""Where a stream's timestamps begin again: the one rule by which packets are parted, and what names one of them.

Used by the scan of the timeline, and by what reads sound beside it: both count the parts of a file alike.
"""

from __future__ import annotations

from dataclasses import dataclass

from av.packet import Packet

Spot = tuple[int, int]
"""What tells a packet from the others of its stream, in both passes: its stamp, its place in the file (-1 unknown)."""

_BACK_S = 0.25
"""Decoding times that go back by more are another part; writers round them by less."""

_REORDERED_S = 3.0
"""The same of presentation times, where there are no decoding times: no codec reorders pictures over so long."""


@dataclass(slots=True)
class PartClock:
    """Takes the times of a video stream's packets in the order of the file. `tick`: seconds."""

    tick: float
    decoded_at: int | None = None
    latest: int | None = None

    def begins(self, stamp: int, dts: int | None) -> bool:
        """Whether another part begins with a packet of this time, in ticks; `dts`: its decoding time if it has one."""
        again = self._goes_back(stamp, dts)
        self.decoded_at = dts if dts is not None else self.decoded_at
        self.latest = stamp if again or self.latest is None else max(stamp, self.latest)
        return again

    def _goes_back(self, stamp: int, dts: int | None) -> bool:
        if dts is not None and self.decoded_at is not None:
            return (self.decoded_at - dts) * self.tick > _BACK_S
        return self.latest is not None and (self.latest - stamp) * self.tick > _REORDERED_S


def spot_of(packet: Packet) -> Spot:
    """The spot of a packet that has a stamp."""
    stamp = packet.pts if packet.pts is not None else packet.dts
    assert stamp is not None
    return stamp, -1 if packet.pos is None else packet.pos
