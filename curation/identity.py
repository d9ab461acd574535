"""What makes two videos, two clips or two filters the same: content hash, clip id, fingerprint.

`video_id` is a hash of the bytes, so a video is one row however often and under whatever name it is submitted. A
fingerprint names how a value was made (method, version, parameters, weights): when it differs, the value is stale.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, BinaryIO

_BLOCK = 4 << 20


def content_id(stream: BinaryIO, sink: Callable[[bytes], object] | None = None) -> tuple[str, int]:
    """Hash a stream to its `video_id` (SHA-256, first 128 bits in hex) and its length in bytes.

    `sink` receives every block, so that a remote object is read once for hashing and staging together.
    """
    digest = hashlib.sha256()
    size = 0
    while block := stream.read(_BLOCK):
        digest.update(block)
        size += len(block)
        if sink is not None:
            sink(block)
    return digest.hexdigest()[:32], size


FAMILY = 12
"""Digits of its video's id that a clip's id begins with: the clips of a video lie side by side in every index."""


def clip_id(video_id: str, start_frame: int, end_frame: int, plan: str) -> str:
    """The id of frames `start_frame` to `end_frame` of a video under one plan (its fingerprint): 32 hex digits, the
    first 12 its video's.
    """
    return (video_id[:FAMILY] + older_clip_id(video_id, start_frame, end_frame, plan))[:32]


def older_clip_id(video_id: str, start_frame: int, end_frame: int, plan: str) -> str:
    """The id that the same clip has where it was measured for a pyramid of format 1: a hash throughout. It keeps it."""
    text = f"{video_id}:{start_frame}:{end_frame}:{plan}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def fingerprint(name: str, version: int, parameters: Any, digits: int = 8) -> str:
    """`name-version-xxxxxxxx`: readable, and different whenever a parameter (anything JSON can hold) differs."""
    canonical = json.dumps(parameters, sort_keys=True, separators=(",", ":"), default=str)
    return f"{name}-{version}-{hashlib.sha256(canonical.encode()).hexdigest()[:digits]}"
