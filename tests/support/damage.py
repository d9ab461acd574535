"""Damaged copies of sound files, as disks, networks and careless tools make them: flips, cuts, swaps, grafts, sizes.

`damaged(data, other, random)` gives one, and the name of what was done to it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping


def _flip(data: bytearray, other: bytes, random_: random.Random) -> bytearray:
    """Single bits change."""
    for _ in range(random_.randint(1, 200)):
        data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
    return data


def _zero(data: bytearray, other: bytes, random_: random.Random) -> bytearray:
    """A hole of zeros."""
    start, size = random_.randrange(len(data)), random_.randint(1, 8000)
    data[start : start + size] = bytes(len(data[start : start + size]))
    return data


def _cut(data: bytearray, other: bytes, random_: random.Random) -> bytearray:
    """The end is missing, or the beginning, or a piece."""
    a, b = sorted(random_.sample(range(len(data)), 2))
    return random_.choice([data[:b], data[a:], data[:a] + data[b:]])


def _swap(data: bytearray, other: bytes, random_: random.Random) -> bytearray:
    """Two pieces change places."""
    size = random_.randint(1, len(data) // 4)
    a, b = sorted(random_.sample(range(len(data) - size), 2))
    if b - a < size:
        return data
    data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    return data


def _graft(data: bytearray, other: bytes, random_: random.Random) -> bytearray:
    """A piece of another file."""
    start, size = random_.randrange(len(other)), random_.randint(1, 20_000)
    at = random_.randrange(len(data))
    piece = other[start : start + size]
    data[at : at + (len(piece) if random_.random() < 0.5 else 0)] = piece
    return data


def _size(data: bytearray, other: bytes, random_: random.Random) -> bytearray:
    """A number in the file's head, a size or a count as likely as not, is another."""
    for _ in range(random_.randint(1, 4)):
        at = random_.randrange(min(len(data) - 4, 4096))
        data[at : at + 4] = random_.choice(
            [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", random_.randbytes(4)]
        )
    return data


def _text(data: bytearray, other: bytes, random_: random.Random) -> bytearray:
    """Letters of the file's head, metadata as likely as not, are no longer UTF-8."""
    letters = [at for at, byte in enumerate(data[:8192]) if 97 <= byte <= 122]
    for at in random_.sample(letters, min(len(letters), random_.randint(1, 12))):
        data[at] = random_.choice([0x80, 0xC3, 0xFF])
    return data


WAYS: Mapping[str, Callable[[bytearray, bytes, random.Random], bytearray]] = {
    "flips": _flip,
    "zeros": _zero,
    "cut": _cut,
    "swap": _swap,
    "graft": _graft,
    "sizes": _size,
    "text": _text,
}


def damaged(data: bytes, other: bytes, random_: random.Random) -> tuple[str, bytes]:
    """One or two of `WAYS` done to `data`; `other` is a file that pieces may come from."""
    names = random_.choices(list(WAYS), k=random_.choice([1, 1, 2]))
    made = bytearray(data)
    for name in names:
        made = WAYS[name](made, other, random_) if len(made) > 64 else made
    return "+".join(names), bytes(made)
