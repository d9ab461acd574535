"""From a decoded frame to the picture that counts: deinterlaced where the source needs it, then converted.

The one door that both passes take, so that a clip holds the pixels that were measured. `Conversion` is what was done,
as the clip's row says it: the measuring pass writes it, the cutting pass reads it back and does the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import av
import av.error

from curation.errors import UserError
from curation.media.pictures.colour import BT2020, GAMUTS, HDR, LIMITED, NO_TAGS, PQ, Light, Tagged
from curation.media.pictures.convert import Converter
from curation.media.pictures.fields import PARITIES, Deinterlacer, Parity

_DEINTERLACED, _TONE, _GAMUT, _JOIN = "deinterlaced ", "tone-mapped from ", "gamut-mapped from ", ", "


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was done to a clip's pictures beyond a change of pixel format.

    `parity`: of the fields it was deinterlaced from. `mapped`: the transfer (HDR) or the primaries (wide gamut) that
    its colours were brought to BT.709 from, by libav's name.
    """

    parity: Parity | None = None
    mapped: str | None = None

    @classmethod
    def of(cls, light: Light, parity: Parity | None) -> Conversion:
        """The conversion of frames of this light and these fields."""
        return cls(parity, light.mapped)

    @property
    def text(self) -> str | None:
        """As the column `conversion` has it: "deinterlaced tff, tone-mapped from smpte2084"; None where nothing was."""
        parts = []
        if self.parity:
            parts.append(_DEINTERLACED + self.parity)
        if self.mapped:
            parts.append((_TONE if self.mapped in HDR.values() else _GAMUT) + self.mapped)
        return _JOIN.join(parts) or None

    @classmethod
    def parse(cls, text: str | None) -> Conversion:
        """The conversion of such a text; raises ValueError for any other."""
        parity, mapped = None, None
        for part in text.split(_JOIN) if text else ():
            if part.startswith(_DEINTERLACED):
                parity = part.removeprefix(_DEINTERLACED)
            else:
                mapped = part.removeprefix(_TONE).removeprefix(_GAMUT)
        if parity in (None, *PARITIES) and mapped in (None, *HDR.values(), *GAMUTS.values()):
            made = cls(cast("Parity | None", parity), mapped)
            if made.text == text:
                return made
        raise ValueError(f"no conversion: {text!r}")


class Development:
    """Develops the frames of one stream, in order: one comes out for each that goes in, with its own pts.

    With `parity` each is held back until the next one is there, and `flush` gives the last one; else it comes at once,
    and what is plain already comes as it is, uncopied. `container`: see `Converter`. A reader that goes
    back in the file takes a new one. A deinterlaced picture is made from its neighbours too: to get the same one again,
    push the frame before it and the one after.
    """

    def __init__(self, parity: Parity | None = None, container: Tagged = NO_TAGS) -> None:
        self.parity: Parity | None = parity
        self._deinterlacer = Deinterlacer(parity) if parity else None
        self._converter = Converter(container)

    def light(self, frame: av.VideoFrame) -> Light:
        """The light of a frame as decoded, before it is pushed."""
        return self._converter.light(frame)

    def push(self, frame: av.VideoFrame) -> list[av.VideoFrame]:
        """The next decoded frame; gives what is ready."""
        if self._deinterlacer is None:
            return [self._converter(frame)]
        return [self._converter(made) for made in self._deinterlacer.push(frame)]

    def flush(self) -> list[av.VideoFrame]:
        """No frame follows; gives what was held back."""
        if self._deinterlacer is None:
            return []
        return [self._converter(made) for made in self._deinterlacer.flush()]


def prepare() -> None:
    """Develop two pictures that need every filter there is: interlaced, HDR, and with alpha. About 20 ms.

    `UserError` where this libav cannot: it could not for any video, so none is to be blamed for it.
    """
    development = Development(PARITIES[0])
    try:
        made = [out for number in range(2) for out in development.push(_demanding(number))] + development.flush()
    except MemoryError:
        raise
    except (av.error.FFmpegError, ValueError) as error:  # a filter that is not there is a ValueError
        said = f"this libav cannot convert pictures ({type(error).__name__}: {error})"
        raise UserError(said, "pip install --force-reinstall --only-binary av av") from error
    assert [picture.format.name for picture in made] == ["yuv420p"] * 2, made


def _demanding(number: int) -> av.VideoFrame:
    frame = av.VideoFrame(16, 16, "yuva420p10le")
    frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range = BT2020, PQ, BT2020, LIMITED
    frame.pts = number
    return frame
