"""What a file that does not open is called; and that whatever a folder is searched for, a demuxer may open."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import imageio_ffmpeg
import pytest

from curation.contract import Reason
from curation.inputs.kinds import VIDEO_EXTENSIONS
from curation.media.probe import Unfit, open_media
from tests.support import media

_PLAIN = "libx264"
_MADE_AS: dict[str, tuple[str, str]] = {
    **dict.fromkeys([".mp4", ".mp4v", ".f4v", ".insv", ".lrv"], ("mp4", _PLAIN)),
    ".m4v": ("ipod", _PLAIN),
    **dict.fromkeys([".mov", ".qt"], ("mov", _PLAIN)),
    **dict.fromkeys([".mkv", ".mk3d"], ("matroska", _PLAIN)),
    ".webm": ("webm", "libvpx"),
    ".avi": ("avi", "mpeg4"),
    ".divx": ("avi", "mpeg4"),
    **dict.fromkeys([".wmv", ".asf"], ("asf", "wmv2")),
    ".flv": ("flv", "flv"),
    **dict.fromkeys([".mpg", ".mpeg", ".mpe"], ("mpeg", "mpeg1video")),
    ".vob": ("vob", "mpeg2video"),
    ".m1v": ("mpeg1video", "mpeg1video"),
    **dict.fromkeys([".m2v", ".mpv"], ("mpeg2video", "mpeg2video")),
    **dict.fromkeys([".ts", ".mts", ".m2t"], ("mpegts", _PLAIN)),
    ".m2ts": ("m2ts", _PLAIN),
    ".mxf": ("mxf", "mpeg2video"),
    ".3gp": ("3gp", "h263"),
    ".3g2": ("3g2", "h263"),
    **dict.fromkeys([".ogv", ".ogg", ".ogm"], ("ogg", "libtheora")),
    ".dv": ("dv", "dvvideo"),
    **dict.fromkeys([".rm", ".rmvb"], ("rm", "rv10")),
    ".ivf": ("ivf", "libvpx"),
    ".nut": ("nut", "mpeg4"),
    ".gxf": ("gxf", "mpeg2video"),
    **dict.fromkeys([".h264", ".264", ".avc"], ("h264", _PLAIN)),
    **dict.fromkeys([".h265", ".265", ".hevc"], ("hevc", "libx265")),
    ".obu": ("obu", "libaom-av1"),
    **dict.fromkeys([".mjpeg", ".mjpg"], ("mjpeg", "mjpeg")),
    ".y4m": ("yuv4mpegpipe", "wrapped_avframe"),
}
"""How a file with each extension comes about: muxer and encoder."""


@cache
def _made(folder: Path, muxer: str, codec: str) -> Path:
    path = folder / f"{muxer}-{codec}"
    muxing = {"m2ts": ["-f", "mpegts", "-mpegts_m2ts_mode", "1"]}.get(muxer, ["-f", muxer])
    speed = ["-cpu-used", "8"] if codec == "libaom-av1" else []
    source = "testsrc2=size=720x576:rate=25:duration=0.24" if codec != "h263" else "testsrc2=size=352x288:duration=0.24"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-f", "lavfi", "-i", source, "-pix_fmt"]
    full = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    subprocess.run([*command, full, "-c:v", codec, *speed, *muxing, str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.mark.parametrize("extension", sorted(VIDEO_EXTENSIONS))
def test_what_folders_are_searched_for_is_opened(folder: Path, extension: str) -> None:
    with open_media(_made(folder, *_MADE_AS[extension])) as (container, stream):
        assert next(container.decode(stream)).width in (720, 352)


def _verdict(path: Path) -> tuple[Reason, str]:
    with pytest.raises(Unfit) as caught, open_media(path):
        pass
    return caught.value.verdict.reason, caught.value.verdict.detail


_TEXTS = {
    "playlist": (b"#EXTM3U\n#EXTINF:1,\na.ts\n", Reason.FORBIDDEN_FORMAT),
    "windows playlist": (b'<ASX version="3.0"><entry/></ASX>', Reason.FORBIDDEN_FORMAT),
    "concat": (b"\xef\xbb\xbfffconcat version 1.0\nfile a.mp4\n", Reason.FORBIDDEN_FORMAT),
    "subtitles": (b"1\n00:00:01,000 --> 00:00:02,000\nHello\n\n" * 20, Reason.UNSUPPORTED_FORMAT),
    "prose": (b"Once upon a time there was no video at all.\n" * 20, Reason.NOT_MEDIA),
}


@pytest.mark.parametrize("kind", _TEXTS)
def test_only_what_refers_to_other_files_is_called_so(tmp_path: Path, kind: str) -> None:
    content, reason = _TEXTS[kind]
    (tmp_path / "x.mp4").write_bytes(content)
    found, detail = _verdict(tmp_path / "x.mp4")
    assert found is reason
    if reason is Reason.FORBIDDEN_FORMAT:
        assert "names other files" in detail and detail.split()[2].rstrip(",").encode().lower() in content.lower()


@pytest.mark.parametrize("name", ["wav", "png", "jpg", "webp", "bmp"])
def test_a_container_that_is_known_and_not_taken(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"x.{name}"
    source = "sine=d=1" if name == "wav" else "testsrc2=d=0.04"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-v", "error", "-f", "lavfi", "-i", source, str(path)]
    subprocess.run(command, check=True)
    assert _verdict(path)[0] is Reason.UNSUPPORTED_FORMAT


def test_a_recording_without_its_index_is_broken_and_says_what_is_missing(tmp_path: Path) -> None:
    content = media.sample("plain.mp4").read_bytes()
    path = tmp_path / "x.mp4"
    path.write_bytes(content[: content.index(b"moov") - 4])
    reason, detail = _verdict(path)
    assert reason is Reason.BROKEN
    assert "no moov" in detail


@pytest.mark.parametrize("extension", sorted({".mp4", ".webm", ".avi", ".asf", ".ogv", ".mxf", ".nut", ".y4m"}))
def test_no_head_of_a_container_is_called_no_media(folder: Path, tmp_path: Path, extension: str) -> None:
    """Cut anywhere behind its signature, it opens or it is broken."""
    content = _made(folder, *_MADE_AS[extension]).read_bytes()
    path = tmp_path / f"x{extension}"
    for size in (40, 64, 100, 200, 400, 1000, 4000):
        path.write_bytes(content[:size])
        assert _reason(path) in (None, Reason.BROKEN, Reason.NO_VIDEO, Reason.UNSUPPORTED_CODEC), size


def _reason(path: Path) -> Reason | None:
    try:
        with open_media(path):
            return None
    except Unfit as error:
        return error.verdict.reason
