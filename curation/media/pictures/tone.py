"""Tone and gamut mapping as a table: HDR or wide-gamut colours in, the colours of a BT.709 screen out.

`convert.py` puts every 10-bit HDR or wide-gamut frame through such a table. It depends on the source's primaries and
transfer alone, never on a file's mastering metadata, so that the same colours become the same pixels in every clip.

    signal -> linear light, diffuse white at 1 -> BT.709 primaries -> into the gamut -> tone curve -> BT.1886 signal

- Light: PQ by ST 2084, where 203 cd/m2 is the diffuse white (BT.2408), so what an SDR picture can show keeps its level.
  SDR by BT.1886 with black at 0. HLG stands for the light of the scene (BT.2100), 75 % of it for the diffuse white;
  a BT.709 camera and a BT.1886 screen turn that into the light of the screen. This is BT.2408's scene-referred way, as
  zimg and thus `zscale` take it.
- Gamut: a colour outside is mixed with the grey of its own luminance until it is just inside.
- Tone curve, HDR only: the EETF of BT.2390 from a peak of 1000 cd/m2 to 203, on the largest of R, G and B; the others
  follow in proportion, which keeps hue and saturation. Light above 1000 is white.
"""

from __future__ import annotations

import functools

import numpy as np

from curation.media.pictures.colour import DISPLAY_P3, HLG, PQ, WIDE

WHITE, PEAK = 203.0, 1000.0
"""cd/m2: what becomes SDR's white level as diffuse white, and the brightest light that is told from white."""

SIDE = 36
"""Colours along each axis of a table: the cube of a Hald CLUT of level 6."""

_GAMMA = 2.4
_M1, _M2, _C1, _C2, _C3 = 1305 / 8192, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128
_LUMA_709 = np.array([0.2126, 0.7152, 0.0722])

# Linear RGB to linear BT.709 RGB, white to white; rows are the outputs.
_FROM_2020 = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008350], [-0.018151, -0.100579, 1.118730]]
)
_FROM_P3 = np.array([[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]])


@functools.lru_cache(maxsize=8)
def hald(primaries: int, transfer: int) -> np.ndarray:
    """The table as the picture that libavfilter's `haldclut` takes: uint16 RGB, (SIDE**1.5, SIDE**1.5, 3), red fastest.

    Full-range RGB signals in, full-range BT.709 signals out. About 20 ms of CPU, once a process.
    """
    axis = np.linspace(0.0, 1.0, SIDE)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    mapped = to_709(np.stack([red, green, blue], axis=-1).reshape(-1, 3), primaries, transfer)
    side = round(SIDE**1.5)
    return np.ascontiguousarray((mapped * 65535).round().astype(np.uint16).reshape(side, side, 3))


def to_709(signal: np.ndarray, primaries: int, transfer: int) -> np.ndarray:
    """RGB signals (n, 3) in 0..1, of these primaries and transfer (libav's numbers), as BT.709 signals for BT.1886."""
    hdr = transfer in (PQ, HLG)
    light = _light(signal, transfer)
    if primaries in WIDE:
        light = light @ (_FROM_P3 if primaries in DISPLAY_P3 else _FROM_2020).T
    light = _inside(light, np.inf if hdr else 1.0)
    if transfer == HLG:
        light = _filmed(light)
    return (_toned(light) if hdr else light) ** (1 / _GAMMA)


def _light(signal: np.ndarray, transfer: int) -> np.ndarray:
    """Linear light, of the scene for HLG and of the screen for all else; 1 is the diffuse white."""
    if transfer == PQ:
        return pq_light(signal) / WHITE
    if transfer == HLG:
        return hlg_light(signal) / hlg_light(0.75)
    return signal**_GAMMA


def _filmed(scene: np.ndarray) -> np.ndarray:
    """The light of a BT.1886 screen that shows this scene, as taken by a BT.709 camera without a limit."""
    signal = np.where(scene < 0.018, 4.5 * scene, 1.099 * np.maximum(scene, 1e-9) ** 0.45 - 0.099)
    return signal**_GAMMA


def hlg_light(signal: np.ndarray | float) -> np.ndarray:
    """Light of the scene, 0..1, of an HLG signal in 0..1 (BT.2100)."""
    signal = np.asarray(signal)
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12)


def pq_light(signal: np.ndarray | float) -> np.ndarray:
    """cd/m2 of a PQ signal in 0..1 (ST 2084)."""
    root = np.asarray(signal) ** (1 / _M2)
    return 10000 * (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1)


def pq_signal(light: np.ndarray | float) -> np.ndarray:
    """The PQ signal, 0..1, of light in cd/m2."""
    root = (np.asarray(light) / 10000) ** _M1
    return ((_C1 + _C2 * root) / (1 + _C3 * root)) ** _M2


def _toned(light: np.ndarray) -> np.ndarray:
    brightest = light.max(axis=1, keepdims=True)
    return light * (_curve(brightest * WHITE) / WHITE / np.maximum(brightest, 1e-9))


def _curve(light: np.ndarray) -> np.ndarray:
    """BT.2390's EETF, PEAK to WHITE, both blacks 0; in and out in cd/m2. Straight up to its knee, then a spline."""
    top = float(pq_signal(PEAK))
    signal = np.minimum(pq_signal(light) / top, 1.0)
    most = float(pq_signal(WHITE)) / top
    knee = 1.5 * most - 0.5
    t = np.maximum(signal - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return pq_light(np.where(signal < knee, signal, spline) * top)


def _inside(light: np.ndarray, top: float) -> np.ndarray:
    """Colours between 0 and `top`: mixed with their own grey as far as it takes."""
    grey = np.clip(light @ _LUMA_709, 0.0, top)[:, None]
    away = light - grey
    room = np.full_like(light, np.inf)
    np.divide(top - grey, away, out=room, where=away > 0)
    np.divide(-grey, away, out=room, where=away < 0)
    share = np.minimum(1.0, room.min(axis=1, keepdims=True))
    return np.clip(grey + share * away, 0.0, top)
