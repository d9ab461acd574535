"""A clip on its way out, and what a layout makes of clips: files of some of them, and an index of all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from curation.contract import Kind

Line = dict[str, Any]
"""What an index says of a clip, as JSON: `file_name`, `text` (its caption, in one line) and the columns of its row."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A clip: `name` of its files without a suffix, `suffix` of its bytes, `caption` ("" where it has none)."""

    name: str
    suffix: str
    content: bytes
    caption: str
    row: Mapping[str, Any]

    @property
    def is_image(self) -> bool:
        return self.row["kind"] == Kind.IMAGE

    @property
    def in_one_line(self) -> str:
        """The caption without line breaks: files with a caption a line have as many lines as clips."""
        return " ".join(self.caption.split())


class Layout(Protocol):
    """A way to lay clips out. `takes_images`: whether its readers take images; they are left out, and told, otherwise.
    `clips_a_part`: how many go into a part, which is written whole, or again after a kill.
    """

    @property
    def takes_images(self) -> bool: ...

    @property
    def clips_a_part(self) -> int: ...

    def files(self, part: str, samples: Sequence[Sample]) -> Iterator[tuple[str, bytes]]:
        """The files of a part, by their names with `/`. `part`: a name that no other part has."""
        ...

    def file_of(self, part: str, sample: Sample) -> str:
        """Which of them a clip is in."""
        ...

    def indexes(self) -> Mapping[str, Index]:
        """The files over all clips, by name."""
        ...


class Index(Protocol):
    """Makes the bytes of an index of the lines of all clips, some at a time."""

    def __call__(self, lines: Iterable[Line]) -> Iterator[bytes]: ...
