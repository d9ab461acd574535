"""Text states kept on disk: a prompt is encoded once, whatever the number of epochs and ranks.

    folder / first 16 of the encoder's fingerprint / first 2 of the key / key.safetensors

The key is sha256 of (encoder's fingerprint, prompt), so another encoder, or other settings of the same, never meets
these files; they can be removed by the encoder's folder. Files come into being whole, so ranks may share a folder.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from training.models.base import TextEncoder, TextStates

logger = logging.getLogger(__name__)


class KeyedEncoder(TextEncoder, Protocol):
    """A text encoder that says who it is; two with one fingerprint give the same states."""

    @property
    def fingerprint(self) -> str: ...


class TextCache:
    """The states of one encoder's prompts: (M, D) and (P,) a prompt, in the dtype that they had."""

    def __init__(self, folder: Path, encoder: str) -> None:
        self._encoder, self._root = encoder, folder / encoder[:16]

    def path(self, prompt: str) -> Path:
        key = hashlib.sha256(f"{self._encoder}\0{prompt}".encode()).hexdigest()
        return self._root / key[:2] / f"{key}.safetensors"

    def get(self, prompt: str) -> TextStates | None:
        """The states on the CPU, or None. A file that a failing disk left unreadable counts as absent, and is named."""
        path = self.path(prompt)
        try:
            found = load_file(path)
            return TextStates(found["tokens"], found["pooled"])
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError) as error:
            logger.warning("%s is unreadable (%s): the prompt is encoded again", path, error)
            return None

    def put(self, prompt: str, states: TextStates) -> None:
        """Write, or replace, in one step."""
        path = self.path(prompt)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Clones, because a view would be written with the whole batch that it belongs to.
        tensors = {"tokens": states.tokens_BMD.cpu().clone(), "pooled": states.pooled_BP.cpu().clone()}
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".", delete=False) as file:
            try:
                file.write(save(tensors))
                file.flush()
                os.fsync(file.fileno())
                os.replace(file.name, path)
            except BaseException:
                os.unlink(file.name)
                raise


class Cached:
    """`base.TextEncoder`: another one behind a cache. States come on `device`. `hits`, `misses`: distinct prompts."""

    def __init__(self, encoder: KeyedEncoder, folder: Path, device: torch.device | str = "cpu") -> None:
        self._inner, self._cache, self._device = encoder, TextCache(folder, encoder.fingerprint), device
        self.fingerprint = encoder.fingerprint
        self.hits = self.misses = 0

    def encode(self, prompts: Sequence[str]) -> TextStates:
        known = {prompt: self._cache.get(prompt) for prompt in prompts}
        missing = [prompt for prompt, states in known.items() if states is None]
        self.hits, self.misses = self.hits + len(known) - len(missing), self.misses + len(missing)
        if missing:
            made = self._inner.encode(missing)
            for prompt, tokens, pooled in zip(missing, made.tokens_BMD, made.pooled_BP, strict=True):
                known[prompt] = TextStates(tokens, pooled)
                self._cache.put(prompt, TextStates(tokens, pooled))
        rows = [states for states in (known[prompt] for prompt in prompts) if states is not None]
        tokens, pooled = ([getattr(row, name) for row in rows] for name in ("tokens_BMD", "pooled_BP"))
        return TextStates(*(torch.stack([x.to(self._device) for x in part]) for part in (tokens, pooled)))
