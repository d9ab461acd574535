"""An image of any format becomes one upright sRGB picture; what its bytes lie about becomes a verdict."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from curation.contract import Reason
from curation.errors import UserError
from curation.media import animation
from curation.media.probe import Unfit
from curation.media.sandbox.child import _load
from curation.media.sandbox.protocol import Setup
from curation.media.still import built_in, picture
from curation.media.still.colour import CONVERTED, NOT_READ
from curation.media.still.look import Look, look
from curation.media.still.picture import Still, decode
from tests.support import boxes, images
from tests.support.measuring import MAX_PIXELS

LOSSY = {"jpg", "avif", "heic"}


def decoded(path: Path) -> Still:
    found = look(path)
    assert found is not None and not found.moves
    return decode(path, found, MAX_PIXELS)


def rgb(path: Path) -> np.ndarray:
    return decoded(path).bgr[:, :, ::-1].astype(int)


def near(found: np.ndarray, wanted: np.ndarray, most: float = 8.0) -> bool:
    return found.shape == wanted.shape and float(np.abs(found - wanted.astype(int)).mean()) <= most / 4


@pytest.mark.parametrize("extension", images.FORMATS)
def test_each_format_is_read_and_known_by_its_content(tmp_path: Path, extension: str) -> None:
    path = images.save(tmp_path / f"x.{extension}").rename(tmp_path / "no-name")
    found = look(path)
    assert found is not None and found.format == {"jpg": "jpeg"}.get(extension, extension)
    assert near(rgb(path), images.picture(), 8 if extension in LOSSY else 0)


@pytest.mark.parametrize("extension", images.FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_upright(tmp_path: Path, extension: str, orientation: int) -> None:
    wanted = images.picture()
    # What a camera held so would have stored: the inverse of what EXIF asks for.
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
    ways = (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.ROTATE_90)
    ways += (Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270, Image.Transpose.TRANSPOSE)
    ways += (Image.Transpose.TRANSVERSE,)
    image = Image.fromarray(wanted)
    image = image if turn is None else image.transpose(ways[turn])
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert near(rgb(images.save(tmp_path / f"x.{extension}", image, exif=exif.tobytes())), wanted)


@pytest.mark.parametrize("extension", images.FORMATS)
def test_what_xmp_says_of_orientation_turns_nothing(tmp_path: Path, extension: str) -> None:
    options: dict[str, Any] = {"xmp": images.XMP_TURNED}
    if extension == "heic":  # its writer would turn by it
        options["xmp"] = images.XMP_TURNED.replace(b'"6"', b'"1"')
    if extension == "png":
        options = {"pnginfo": PngImagePlugin.PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", images.XMP_TURNED.decode())
    path = images.save(tmp_path / f"x.{extension}", **options)
    path.write_bytes(path.read_bytes().replace(b'tiff:Orientation="1"', b'tiff:Orientation="6"'))
    assert images.XMP_TURNED in path.read_bytes()
    assert near(rgb(path), images.picture())


@pytest.mark.parametrize("extension", ["png", "jpg", "webp"])
def test_a_profile_is_applied(tmp_path: Path, extension: str) -> None:
    path = images.save(tmp_path / f"x.{extension}", icc_profile=images.swapped_profile())
    assert near(rgb(path), images.picture()[:, :, ::-1], 12)
    assert decoded(path).conversion == CONVERTED


def test_a_profile_that_does_not_fit_is_passed_over_and_told(tmp_path: Path) -> None:
    for name, content in (("damaged", b"no profile at all"), ("cut", images.swapped_profile()[:200])):
        path = images.save(tmp_path / f"{name}.jpg", icc_profile=content)
        assert near(rgb(path), images.picture()) and decoded(path).conversion == NOT_READ
    path = images.save(tmp_path / "cmyk.jpg", Image.new("CMYK", (64, 48)), icc_profile=images.swapped_profile())
    assert decoded(path).conversion == NOT_READ
    grey = images.save(tmp_path / "grey.jpg", Image.new("L", (64, 48), 77), icc_profile=images.swapped_profile())
    assert decoded(grey).conversion == CONVERTED and np.all(np.abs(rgb(grey) - 77) <= 2)


def test_cmyk_is_what_it_shows(tmp_path: Path) -> None:
    path = images.save(tmp_path / "x.jpg", Image.new("CMYK", (64, 48), (0, 255, 255, 0)))
    assert np.abs(rgb(path) - (255, 0, 0)).max() <= 3


def test_sixteen_bits_become_the_nearest_eight(tmp_path: Path) -> None:
    levels = np.arange(65536).astype(np.uint16).reshape(256, 256)
    near = (levels / 257).round()
    cv2.imwrite(str(tmp_path / "grey.png"), levels)
    assert np.array_equal(rgb(tmp_path / "grey.png")[..., 0], near)
    deep = np.stack([levels, levels[::-1], levels[:, ::-1]], axis=-1)
    (tmp_path / "rgb.png").write_bytes(images.png(deep, 16, 2))
    assert np.array_equal(rgb(tmp_path / "rgb.png"), np.stack([near, near[::-1], near[:, ::-1]], axis=-1))
    solid = np.full((256, 256), 65535)
    (tmp_path / "rgba.png").write_bytes(images.png(np.dstack([deep, solid]), 16, 6))
    assert np.array_equal(rgb(tmp_path / "rgba.png"), rgb(tmp_path / "rgb.png"))
    (tmp_path / "la.png").write_bytes(images.png(np.dstack([levels, solid]), 16, 4))
    assert np.array_equal(rgb(tmp_path / "la.png"), np.repeat(near[..., None], 3, 2))


def test_sixteen_bits_keep_profile_and_orientation(tmp_path: Path) -> None:
    deep, exif = images.picture().astype(np.uint16) * 257, Image.Exif()
    exif[0x0112] = 3
    content = images.with_chunk(images.png(deep[::-1, ::-1], 16, 2), b"eXIf", exif.tobytes()[6:])
    profile = b"x\0\0" + zlib.compress(images.swapped_profile())
    (tmp_path / "x.png").write_bytes(images.with_chunk(content, b"iCCP", profile))
    assert near(rgb(tmp_path / "x.png"), images.picture()[:, :, ::-1], 12)


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_one_clear_grey_or_colour_of_any_depth_lies_over_white(tmp_path: Path, depth: int) -> None:
    most = (1 << depth) - 1
    levels = np.tile(np.array([0, 1, most // 2, most]), (6, 2))
    clear = 1 if depth > 1 else 0
    wanted = np.where(levels == clear, 255, (levels * 255 / most).round())
    (tmp_path / "x.png").write_bytes(images.png(levels[..., None], depth, 0, clear.to_bytes(2, "big")))
    assert np.array_equal(rgb(tmp_path / "x.png")[..., 0], wanted)
    if depth >= 8:
        colours = np.repeat(levels[..., None], 3, 2)
        (tmp_path / "x.png").write_bytes(images.png(colours, depth, 2, clear.to_bytes(2, "big") * 3))
        assert np.array_equal(rgb(tmp_path / "x.png")[..., 1], wanted)


def test_grey_and_one_bit(tmp_path: Path) -> None:
    ramp = images.picture()[..., 0]
    for extension in images.FORMATS:
        path = images.save(tmp_path / f"x.{extension}", Image.fromarray(ramp))
        assert near(rgb(path), np.repeat(ramp[..., None], 3, 2)), extension
    bits = Image.fromarray(ramp).convert("1")
    assert np.array_equal(rgb(images.save(tmp_path / "bits.png", bits))[..., 0], np.asarray(bits) * 255)


def test_what_is_transparent_lies_over_white(tmp_path: Path) -> None:
    half = np.dstack([images.picture(), np.full((64, 97), 255, np.uint8)])
    half[:32, :, 3] = 0
    half[32:40, :, 3] = 128
    wanted = images.picture().astype(float)
    wanted[:32] = 255
    wanted[32:40] = wanted[32:40] * 128 / 255 + 127
    for name in ("x.png", "x.webp", "x.avif", "x.heic"):
        assert near(rgb(images.save(tmp_path / name, Image.fromarray(half))), wanted.round()), name
    palette = Image.fromarray(images.picture()).quantize(16)
    shown = np.asarray(palette.convert("RGB")).copy()
    clear = int(np.asarray(palette)[0, 0])
    shown[np.asarray(palette) == clear] = 255
    assert np.array_equal(rgb(images.save(tmp_path / "p.png", palette, transparency=clear)), shown)
    grey = Image.fromarray(half[..., 0]).convert("L")
    grey.putalpha(Image.fromarray(half[..., 3]))
    found = rgb(images.save(tmp_path / "la.png", grey))
    assert np.all(found[:32] == 255) and np.array_equal(found[40:, :, 0], half[40:, :, 0])
    deep = np.full((64, 97), 1000, np.uint16)
    deep[5:] = 40_000
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    content = images.with_chunk((tmp_path / "deep.png").read_bytes(), b"tRNS", (1000).to_bytes(2, "big"))
    (tmp_path / "deep.png").write_bytes(content)
    assert np.array_equal(np.unique(rgb(tmp_path / "deep.png")), [156, 255])


def test_a_picture_with_damaged_metadata_is_a_picture(tmp_path: Path) -> None:
    path = images.save(tmp_path / "x.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\1\2\3" * 9)
    assert near(rgb(path), images.picture())


def verdict(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[Reason, float | None]:
    found = look(path)
    assert found is not None
    with pytest.raises(Unfit) as caught:
        decode(path, found, max_pixels)
    return caught.value.verdict.reason, caught.value.verdict.measured


@pytest.mark.parametrize(
    ("extension", "pixels"),
    [("png", 1e10), ("jpg", 65500.0**2), ("webp", 16384.0**2), ("avif", 3.6e9), ("heic", 3.6e9)],
)
def test_a_bomb_is_known_by_its_header(tmp_path: Path, extension: str, pixels: float) -> None:
    path = images.bomb(tmp_path / f"x.{extension}")
    assert path.stat().st_size < 20_000
    assert verdict(path) == (Reason.TOO_MANY_PIXELS, pixels)


@pytest.mark.parametrize("extension", images.FORMATS)
def test_the_limit_is_exact_and_leaves_pillow_as_it_was(tmp_path: Path, extension: str) -> None:
    path = images.save(tmp_path / f"x.{extension}", images.picture(96, 64))  # HEVC codes even sides
    before = Image.MAX_IMAGE_PIXELS
    assert verdict(path, 96 * 64 - 1) == (Reason.TOO_MANY_PIXELS, 96.0 * 64)
    found = look(path)
    assert found is not None and decode(path, found, 96 * 64).size == (96, 64)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_is_refused(tmp_path: Path, transfer: int) -> None:
    plain = images.save(tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(images.with_chunk(plain, b"cICP", bytes([9, transfer, 0, 1])))
    assert verdict(tmp_path / "x.png") == (Reason.HDR, None)
    for name in ("x.avif", "x.heic"):
        path = images.save(tmp_path / name)
        content = bytearray(path.read_bytes())
        at = content.index(b"nclx")
        content[at + 6 : at + 8] = transfer.to_bytes(2, "big")
        path.write_bytes(content)
        assert verdict(path) == (Reason.HDR, None), name
        content[at + 6 : at + 8] = (13).to_bytes(2, "big")
        path.write_bytes(content)
        assert decoded(path).size == (97, 64)


@pytest.mark.parametrize("transfer", [13, 16, 18])
def test_high_dynamic_range_that_only_the_codec_tells_is_refused(tmp_path: Path, transfer: int) -> None:
    path = images.save(tmp_path / "x.heic", transfer_characteristics=transfer)
    path.write_bytes(path.read_bytes().replace(b"colr", b"free"))
    found = look(path)
    assert found is not None and found.transfer is None
    if transfer == 13:
        assert decoded(path).size == (97, 64)
    else:
        assert verdict(path) == (Reason.HDR, None)


@pytest.mark.parametrize("version", [0, 1])
def test_the_light_of_an_image_is_that_of_its_primary_item(tmp_path: Path, version: int) -> None:
    def number(item: int) -> bytes:
        return item.to_bytes(4 if version else 2, "big")

    colours = [boxes.pack("colr", b"nclx\0\x01" + bytes([0, transfer]) + b"\0\0\0") for transfer in (13, 16)]
    first, second = bytes([0x80, 1]) if version else b"\1", bytes([0x80, 2]) if version else b"\2"
    table = number(1) + b"\1" + first + number(2) + b"\1" + second
    ipma = boxes.pack("ipma", bytes([version, 0, 0, version]) + (2).to_bytes(4, "big") + table)
    for primary, transfer in ((1, 13), (2, 16), (3, 16)):
        pitm = boxes.pack("pitm", bytes([version, 0, 0, 0]) + number(primary))
        meta = bytes(4) + pitm + boxes.pack("iprp", boxes.pack("ipco", b"".join(colours)) + ipma)
        (tmp_path / "x").write_bytes(boxes.pack("ftyp", b"heic\0\0\0\0heic") + boxes.pack("meta", meta))
        assert look(tmp_path / "x") == Look("heic", transfer=transfer)


def test_what_moves_is_told_from_what_stands(tmp_path: Path) -> None:
    frames = images.rolling(3)
    for extension in ("webp", "png", "avif"):
        moving = images.animation(tmp_path / f"m.{extension}", frames)
        found = look(moving)
        assert found is not None and (found.format, found.moves) == (extension, True)
    assert look(images.animation(tmp_path / "one.webp", frames[:1])) == Look("webp")
    for content in (
        b"",
        b"\xff\xd8",
        b"GIF89a" + bytes(99),
        b"RIFF\0\0\0\0WAVEfmt ",
        b"\0\0\0\x18ftypisom" + bytes(40),
    ):
        (tmp_path / "other").write_bytes(content)
        assert look(tmp_path / "other") is None


def test_a_bug_of_ours_is_not_blamed_on_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("ours")

    still, moving = images.save(tmp_path / "x.png"), images.animation(tmp_path / "x.webp", images.rolling(2))
    monkeypatch.setattr(picture, "to_srgb", broken)
    with pytest.raises(ValueError, match="ours"):
        decoded(still)
    monkeypatch.setattr(animation, "_rgba", broken)
    with pytest.raises(ValueError, match="ours"), animation.as_film(moving, MAX_PIXELS, lambda frames: None):
        pass


@pytest.mark.parametrize("feature", ["webp", "avif", "littlecms2"])
def test_a_pillow_that_lacks_something_is_told_at_set_up(monkeypatch: pytest.MonkeyPatch, feature: str) -> None:
    built_in.require()
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", "")  # put back at the end
    monkeypatch.setattr(built_in.features, "check", lambda asked: asked != feature)
    with pytest.raises(UserError, match=f"without .*{built_in._NEEDED[feature]}"):
        _load(Setup(parent=0, memory_mb=0, max_pixels=MAX_PIXELS))


def test_a_libheif_without_hevc_is_told_at_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built_in.pillow_heif, "libheif_info", lambda: {"decoders": {"dav1d": "dav1d AV1 decoder"}})
    with pytest.raises(UserError, match="HEIC"):
        built_in.require()


def test_nothing_is_left_to_import_when_a_picture_is_opened(tmp_path: Path) -> None:
    files = [images.save(tmp_path / f"x.{extension}") for extension in images.FORMATS]
    files.append(images.animation(tmp_path / "mpo.jpg", images.rolling(2), format="MPO"))
    names = [str(file) for file in files]
    program = (
        "import sys; from pathlib import Path; import curation.media.measure as m; from curation.media.plan import *\n"
        "before = set(sys.modules)\n"
        f"for name in {names}: list(m.measure(Path(name), MediaPlan(), 10**6, image_pixels=10**6))\n"
        "print(*sorted(name for name in set(sys.modules) - before if name.startswith('PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "\n"
