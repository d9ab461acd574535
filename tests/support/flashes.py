"""Films in which picture and sound say the time: a flash and a tone begin together, once a second.

Flash number j is as bright and tone number j as high as j says, so that neither is taken for another one's.
"""

from __future__ import annotations

import io
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import ffmpeg
import imageio_ffmpeg
import numpy as np

from tests.support import media

SECONDS = 8
AT_S = 0.48
"""When in each second flash and tone begin."""

TONE_S = 0.02
FLASH_S = 0.07
"""Two pictures of the slowest film, and one where every second one is left out."""

SIZE = (64, 48)


def write(
    path: Path,
    *,
    fps: int | str = 25,
    rate: int = 48000,
    layout: str = "mono",
    late_s: float = 0.0,
    seconds: float = SECONDS,
    sound_s: float | None = None,
    **options: Any,
) -> Path:
    """A film of `seconds`. The sound's stamps are `late_s` later than its samples say; it ends at `sound_s`."""
    width, height = SIZE
    number = "floor(T)"
    flash = f"if(between(mod(T,1),{AT_S - 1e-4},{AT_S + FLASH_S}),50+20*{number},16)"
    pictures = ffmpeg.input(
        f"color=black:size={width}x{height}:rate={fps},format=gray,geq=lum='{flash}',format=yuv420p",
        f="lavfi",
        t=seconds,
    )
    tone = f"0.7*sin(2*PI*(1000+300*floor(t))*(mod(t,1)-{AT_S}))*between(mod(t,1),{AT_S},{AT_S + TONE_S})"
    channels = {"mono": 1, "stereo": 2, "5.1": 6}[layout]
    expressions = "|".join([tone] * channels)
    sound = ffmpeg.input(
        f"aevalsrc='{expressions}':s={rate}:c={layout}",
        f="lavfi",
        t=seconds if sound_s is None else sound_s,
        **({"itsoffset": late_s} if late_s else {}),
    )
    settings: dict[str, Any] = {
        "vcodec": "libx264", "preset": "veryfast", "crf": 10, "g": 50, "acodec": "aac", "threads": 1, **options,
    }  # fmt: skip
    if settings["vcodec"] != "libx264":
        del settings["preset"], settings["crf"]
    media.run(ffmpeg.output(pictures, sound, str(path), **settings))
    return path


def without(source: Path, path: Path, lost: Callable[[float], bool]) -> Path:
    """A copy without the packets of sound whose time, in seconds, is `lost`."""
    return with_sound(source, path, lambda time_s, data: None if lost(time_s) else data)


def with_sound(source: Path, path: Path, changed: Callable[[float, bytes], bytes | None]) -> Path:
    """A copy with other packets of sound, by their time in seconds, from the first picture on, and their
    content; None leaves one out.
    """
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        streams = {stream.index: new.add_stream_from_template(stream) for stream in old.streams}
        picture = old.streams.video[0]
        begin_s = float((picture.start_time or 0) * (picture.time_base or 1))
        for packet in old.demux():
            if packet.dts is None or packet.time_base is None:
                continue
            if packet.stream.type == "audio":
                data = changed(float(packet.dts * packet.time_base) - begin_s, bytes(packet))
                if data is None:
                    continue
                other = av.Packet(data)
                other.pts, other.dts, other.time_base = packet.pts, packet.dts, packet.time_base
                other.duration, other.is_keyframe = packet.duration, True
                other.stream, packet = packet.stream, other
            packet.stream = streams[packet.stream.index]
            new.mux(packet)
    return path


def muxed(path: Path, pictures: Path, sounds: Sequence[Path], flags: Sequence[str]) -> Path:
    """The pictures of one film with the sounds of others, each with its disposition."""
    streams = [ffmpeg.input(str(pictures))["v"], *(ffmpeg.input(str(sound))["a"] for sound in sounds)]
    dispositions = {f"disposition:a:{number}": flag for number, flag in enumerate(flags)}
    media.run(ffmpeg.output(*streams, str(path), c="copy", **dispositions))
    return path


@dataclass(frozen=True)
class Heard:
    """A clip as a player shows it. `apart_s`: by flash number, how much later its tone begins than its picture."""

    apart_s: dict[int, float]
    frames: int
    fps: float
    rate: int
    channels: int
    sound: np.ndarray
    comment: str

    @property
    def seconds(self) -> float:
        return self.frames / self.fps


def heard(data: bytes, late_s: float = 0.0) -> Heard | None:
    """What is seen and heard in a clip, the sound as the ffmpeg program gives it; None where there is no sound.

    `late_s`: how much later than its flash each tone is looked for.
    """
    with av.open(io.BytesIO(data), "r") as container:
        video, comment = container.streams.video[0], container.metadata.get("comment", "")
        fps = float(video.average_rate or 0)
        if not container.streams.audio:
            return None
        audio = container.streams.audio[0]
        rate, channels = audio.rate, audio.codec_context.layout.nb_channels
        times = [frame.time for frame in container.decode(video)]
        container.seek(0)
        first = next(container.decode(audio))
        assert times[0] == 0.0 and first.pts == 0, "sound or picture does not begin at 0"
    apart = _apart(data, channels, rate, 0.0, late_s)
    return Heard(apart, len(times), fps, rate, channels, decoded(data, channels), comment)


def source_apart(path: Path, late_s: float = 0.0) -> dict[int, float]:
    """By flash number, how much later its tone begins in a source without gaps, as libav and the ffmpeg program say."""
    with av.open(str(path), "r") as container:
        audio = container.streams.audio[0]
        rate, channels = audio.rate, audio.codec_context.layout.nb_channels
        first = next(container.decode(audio)).time
    return _apart(path, channels, rate, first or 0.0, late_s)


def _apart(film: bytes | Path, channels: int, rate: int, begin_s: float, late_s: float) -> dict[int, float]:
    """`begin_s`: the time of the first sample."""
    flashes: dict[int, float] = {}
    before = 0.0
    with av.open(io.BytesIO(film) if isinstance(film, bytes) else str(film), "r") as container:
        for frame in container.decode(video=0):
            luma = float(frame.to_ndarray(format="gray").mean())
            if luma > 40 and before < 40:
                flashes[round((luma - 50) / 20)] = frame.time or 0.0
            before = luma
    sound = decoded(film, channels)[0]
    tones = {n: begin_s + _tone(sound, rate, n, flash_s + late_s - begin_s) for n, flash_s in flashes.items()}
    return {n: tone_s - flashes[n] for n, tone_s in tones.items() if not np.isnan(tone_s)}


def decoded(film: bytes | Path, channels: int) -> np.ndarray:
    """The sound (channels, samples) of a film as the ffmpeg program decodes it."""
    source = "pipe:" if isinstance(film, bytes) else str(film)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", source, "-vn", "-f", "f32le", "pipe:"]
    done = subprocess.run(command, input=film if isinstance(film, bytes) else None, capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.float32).reshape(-1, channels).T


def _tone(sound: np.ndarray, rate: int, number: int, near_s: float, within_s: float = 0.4) -> float:
    """When tone `number` begins, within `within_s` of a time; NaN where it is not heard there."""
    t = np.arange(round(TONE_S * rate)) / rate
    tone = np.sin(2 * np.pi * (1000 + 300 * number) * t)
    start = max(0, round((near_s - within_s) * rate))
    part = sound[start : round((near_s + within_s + TONE_S) * rate)]
    if len(part) < len(tone):
        return float("nan")
    alike = np.correlate(part, tone, "valid")
    at = int(alike.argmax())
    return (start + at) / rate if alike[at] > 0.1 * float(tone @ tone) else float("nan")
