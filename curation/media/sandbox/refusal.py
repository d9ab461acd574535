"""What a file is that no allowed demuxer opens: a container cut short, one that is not taken, a text that names others.

`probe.open_media` asks for the reason when FFmpeg has refused a file, and before that for MJPEG without a header. Only
bytes of the file itself are read, and nothing in it is followed.
"""

from __future__ import annotations

import re
from pathlib import Path

import av.error

from curation.contract import Reason
from curation.media.sandbox.handle import reading

_REFERENCES = (
    b"#EXTM3U",
    b"ffconcat",
    b"v=0",
    b"<MPD",
    b"<?xml",
    b"<smil",
    b"<asx",
    b"[playlist]",
    b"[Reference]",
    b"[InternetShortcut]",
    b"RTSPtext",
)
"""How playlists, scripts and sessions begin. Compared in any case."""

_CONTAINERS = re.compile(
    rb"(?P<ISO>....(?:ftyp|moov|mdat|moof|free|skip|wide|styp|sidx|pnot))"
    rb"|(?P<Matroska>\x1aE\xdf\xa3)"
    rb"|(?P<AVI>RIFF....AVI )"
    rb"|(?P<FLV>FLV\x01)"
    rb"|(?P<Ogg>OggS\0)"
    rb"|(?P<ASF>0&\xb2u\x8ef\xcf\x11)"
    rb"|(?P<RealMedia>\.RMF\0)"
    rb"|(?P<MXF>\x06\x0e\x2b\x34\x02\x05\x01\x01)"
    rb"|(?P<NUT>nut/multimedia container\0)"
    rb"|(?P<IVF>DKIF\0\0)"
    rb"|(?P<GXF>\0\0\0\0\x01\xbc)"
    rb"|(?P<SWF>[FCZ]WS[\x01-\x32])"
    rb"|(?P<MPEG>\0\0\x01\xba)"
    rb"|(?P<YUV4MPEG>YUV4MPEG2 )",
    re.DOTALL,
)
"""How the containers that are taken begin."""

_IMAGE = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP", re.DOTALL)
"""How images begin that are taken where their name is an image's, too; AVIF and HEIC open as films of one picture."""

_HEAD = 1024
_JPEG_BEGINS = b"\xff\xd8\xff"
_NEXT_JPEG = re.compile(rb"\xff\xd9\0{0,16}\xff\xd8\xff")
_MOST_JPEG = 32 << 20
"""Bytes in which the first picture of raw MJPEG must end."""

_MOST_BOXES = 1000


def raw_format(path: Path) -> str | None:
    """The demuxer for a file that FFmpeg takes for something else by its content, None for any other: JPEG pictures
    in a row are MJPEG, and a single one is an image.
    """
    with reading(path) as file:
        if file.read(3) != _JPEG_BEGINS:
            return None
        return "mjpeg" if _NEXT_JPEG.search(file.read(_MOST_JPEG)) else None


def refusal(path: Path, error: av.error.FFmpegError) -> tuple[Reason, None, str]:
    """Why `path` was refused with `error`: the reason, no measured number, and a detail."""
    with reading(path) as file:
        head = file.read(_HEAD)
    text = str(error.strerror)
    begins = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if found := next((one for one in _REFERENCES if begins.startswith(one.lower())), None):
        return Reason.FORBIDDEN_FORMAT, None, f"begins with {found.decode()}, as a text that names other files does"
    if _IMAGE.match(head):
        return (
            Reason.UNSUPPORTED_FORMAT,
            None,
            "an image, and its name does not end as an image's does (.png, .jpg, ...)",
        )
    if container := _CONTAINERS.match(head):
        kind = container.lastgroup
        if kind == "ISO" and not _has_index(path):
            text = "no moov: the index is missing, the file was cut off or never finished"
        else:
            text = f"begins as {kind} and cannot be opened: {text}"
        return Reason.BROKEN, None, text
    if isinstance(error, av.error.ArgumentError):  # a demuxer knows it, and is not among those allowed
        return Reason.UNSUPPORTED_FORMAT, None, text
    return Reason.NOT_MEDIA, None, text


def _has_index(path: Path) -> bool:
    """Whether one of the outermost boxes of an ISO file is a `moov`."""
    end, place = path.stat().st_size, 0
    with reading(path) as file:
        for _ in range(_MOST_BOXES):
            file.seek(place)
            head = file.read(16)
            size = int.from_bytes(head[:4], "big")
            if head[4:8] == b"moov":
                return True
            if size == 1:
                size = int.from_bytes(head[8:16], "big")
            if size < 8 or place + size >= end:
                break
            place += size
    return False
