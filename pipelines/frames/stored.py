"""From a sample of a manifest to the frames of its bucket: stored bytes, compared with the manifest's hash, decoded in
the sandbox. `stages.encode` reads so, and so does the autoencoder's training (`clips`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from curation.contract import Kind, Reason, Verdict
from curation.errors import UserError
from curation.media.sandbox.sandbox import Fit, Sandbox
from curation.pyramid.store import Pyramid


@dataclass(frozen=True, slots=True)
class Stored:
    """The stored bytes of a clip, an MP4 or an image, and their SHA-256."""

    content: bytes
    sha256: str


def stored(
    pyramid: Pyramid, media: int | None, samples: Iterable[Mapping[str, Any]], dead: Collection[str] = ()
) -> dict[str, Stored]:
    """What the pyramid has of the samples' clips, by clip id; of none that is `dead`. `media`: the version to read."""
    wanted = [sample["clip_id"] for sample in samples if not is_dead(sample, dead)]
    found = pyramid.media(wanted, media)
    return {clip_id: Stored(content, hashlib.sha256(content).hexdigest()) for clip_id, content, _ in found}


def fitted(
    sandbox: Sandbox, sample: Mapping[str, Any], found: Stored | None, dead: Collection[str] = ()
) -> np.ndarray | Verdict:
    """The frames of a sample's bucket, (T, H, W, 3) uint8, RGB; or why there are none."""
    if is_dead(sample, dead):
        return Verdict(Reason.TAKEN_DOWN)
    if found is None:
        return Verdict(Reason.UNREADABLE, detail="its bytes are not in the pyramid any more")
    if found.sha256 != sample["media"]:
        return Verdict(Reason.UNREADABLE, detail="its bytes in the pyramid are damaged")
    size = (sample["bucket_frames"], sample["bucket_height"], sample["bucket_width"])
    wanted = Fit(sample["kind"] == Kind.IMAGE, sample["interval"], *size)
    return sandbox.fitted(found.content, sample["clip_id"], wanted)


def is_dead(sample: Mapping[str, Any], dead: Collection[str]) -> bool:
    """Whether its clip or its video is among those that were taken down (`tombstones`)."""
    return sample["video_id"] in dead or sample["clip_id"] in dead


def still_there(pyramid: Pyramid, version: int | None) -> int | None:
    """The version of the clips' bytes that a manifest pins; None, the latest, where it was unpinned and is gone
    (`Pyramid.dataset` raises UserError for that alone). A clip's bytes never change, and each is compared with the
    manifest's hash.
    """
    try:
        pyramid.dataset("media", version)
    except UserError:
        return None
    return version
