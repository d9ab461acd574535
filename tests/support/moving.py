"""Moving pictures as 8-bit 4:2:0 planes, made in memory: views of large textures, held, mixed, lit and cut as told."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import cv2
import numpy as np

HEIGHT, WIDTH = 144, 256
_SIZE = 1024
Planes = tuple[np.ndarray, np.ndarray, np.ndarray]


@functools.cache
def texture(seed: int, fine: int = 30) -> Planes:
    """Large planes of smooth noise: luma of its own mean, chroma of its own colours; `fine` adds detail."""
    random = np.random.default_rng(seed)

    def noise(size: int, *layers: tuple[int, float]) -> np.ndarray:
        total = np.zeros((size, size), np.float32)
        for cells, amount in layers:
            small = random.uniform(-1, 1, (cells, cells)).astype(np.float32)
            total += amount * cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
        return total

    luma = 70 + 40 * (seed * 7 % 5) / 2 + noise(_SIZE, (12, 55), (40, 30), (160, fine))
    chroma = [128 + random.uniform(-45, 45) + noise(_SIZE // 2, (10, 25), (40, 10)) for _ in range(2)]
    y, u, v = (np.clip(plane, 16, 240).astype(np.uint8) for plane in (luma, *chroma))
    return y, u, v


def view(seed: int, x: float, y: float = 0.0, fine: int = 30) -> Planes:
    """The texture seen from (x, y); the view turns back at the edges. Positions are made even."""
    across, down = (_bounce(at, _SIZE - size) // 2 * 2 for at, size in ((x, WIDTH), (y, HEIGHT)))
    luma, u, v = texture(seed, fine)
    half = (slice(down // 2, (down + HEIGHT) // 2), slice(across // 2, (across + WIDTH) // 2))
    return luma[down : down + HEIGHT, across : across + WIDTH], u[half], v[half]


def noisy(planes: Planes, amount: float, random: np.random.Generator) -> Planes:
    """With normal noise of this standard deviation on luma, half of it on chroma."""
    if not amount:
        return planes
    parts = zip(planes, (amount, amount / 2, amount / 2), strict=True)
    y, u, v = (np.clip(p + random.normal(0, a, p.shape), 0, 255).astype(np.uint8) for p, a in parts)
    return y, u, v


def mixed(old: Planes, new: Planes, part: float, gamma: float = 1.0) -> Planes:
    """`part` of `new` in `old`; with a gamma, luma is mixed in linear light."""
    light = [(plane / 255.0) ** gamma for plane in (old[0], new[0])]
    luma = 255 * ((1 - part) * light[0] + part * light[1]) ** (1 / gamma)
    u, v = ((1 - part) * a + part * b for a, b in zip(old[1:], new[1:], strict=True))
    return luma.astype(np.uint8), u.astype(np.uint8), v.astype(np.uint8)


def lit(planes: Planes, colour: Sequence[int], part: float) -> Planes:
    """The picture with `part` of one colour (Y, U, V) over it."""
    y, u, v = (np.full_like(plane, value) for plane, value in zip(planes, colour, strict=True))
    return mixed(planes, (y, u, v), part)


def holds(pattern: Sequence[int], frames: int) -> list[int]:
    """Which picture each frame shows, where pictures are held for the pattern's numbers of frames in turn."""
    shown: list[int] = []
    while len(shown) < frames:
        picture = shown[-1] + 1 if shown else 0
        shown += [picture] * pattern[picture % len(pattern)]
    return shown[:frames]


def _bounce(value: float, most: int) -> int:
    value = int(value) % (2 * most)
    return value if value < most else 2 * most - value
