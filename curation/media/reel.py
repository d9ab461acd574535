"""Reaching a measured picture again: a decoder that goes forward, and jumps where that leaves pictures out.

Part of the cutting pass. No demuxer is trusted with a jump: `approaches` gives ways to a clip, each one from further
back, the last from the beginning, and the caller takes one that brings the very pictures that were measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from av.container import InputContainer
from av.video.stream import VideoStream

from curation.media.frames import Decoder, Picture, check_size
from curation.media.pictures.colour import Tags
from curation.media.plan import MediaPlan
from curation.media.probe import container_tags, open_media, timeline_of
from curation.media.results import Tally
from curation.media.stream.timeline import Timeline

_BACK = (0, 1, 2, 4, 8, 16, 32, 64)
"""How many places where a decoder can start lie between a clip and where a jump aims at, from one try to the next."""


class Reel:
    """The pictures of one source with one picture of sight; a context manager.

    A picture is decoded when it is looked at, not before: what follows a segment is another worker's. `told`: what the
    container says of their light.
    """

    container: InputContainer
    stream: VideoStream

    def __init__(self, path: Path, plan: MediaPlan, max_pixels: int, progress: Callable[[int], None]) -> None:
        self.tally = Tally()
        self._path, self._plan, self._max_pixels, self._progress = path, plan, max_pixels, progress
        self._open = ExitStack()
        with open_media(path) as (container, stream):
            check_size(stream, max_pixels)
            self.timeline: Timeline = timeline_of(path, container, stream, progress)
            self.told: Tags = container_tags(path, container, stream)
        self._least_back = 0
        self._begin()

    def __enter__(self) -> Reel:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    @property
    def head(self) -> Picture | None:
        """The next picture, or None after the last one."""
        if self._head is None and (found := next(self._pictures, None)) is not None:
            self._head = found
            self._progress(self.tally.decoded)
        return self._head

    def drop(self) -> None:
        """Go past the head."""
        self._at = self._head.index + 1 if self._head is not None else self._at
        self._head = None

    def approaches(self, picture: int) -> Iterator[None]:
        """Bring `picture` to the head, again from further back each time that the caller asks for another way."""
        if self._at <= picture and (self.timeline.by_order or self.timeline.start_before(picture) <= self._at):
            yield self._forward(picture)
        if not self.timeline.by_order:
            for back in _BACK[self._least_back :]:
                start = self._start(picture, back)
                if start <= 0:
                    break
                self._jump(start)
                self._least_back = _BACK.index(back)
                yield self._forward(picture)
        self._begin()
        yield self._forward(picture)

    def _start(self, picture: int, back: int) -> int:
        starts = self.timeline.starts
        at = int((starts <= picture).sum()) - 1 - back
        return int(starts[at]) if at > 0 else 0

    def _forward(self, picture: int) -> None:
        while self.head is not None and self.head.index < picture:
            self.drop()

    def _jump(self, picture: int) -> None:
        self._decoder.seek(picture)
        self._pictures, self._head = iter(self._decoder), None

    def _begin(self) -> None:
        self._open.close()
        self._open = ExitStack()
        self.container, self.stream = self._open.enter_context(open_media(self._path, self._plan.hwaccel))
        check_size(self.stream, self._max_pixels)
        self._decoder = Decoder(self.container, self.stream, self.timeline, self.tally, first_look=False)
        self._pictures: Iterator[Picture] = iter(self._decoder)
        self._head: Picture | None = None
        self._at = 0
