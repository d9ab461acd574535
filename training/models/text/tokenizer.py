"""Prompts to token ids of one length: the first step of every text encoder here.

A prompt longer than that loses its end. Training accepts this and counts it; sampling refuses it, because there a
person waits for what the lost words ask for.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from curation.errors import UserError
from training.models.pretrained import INSTALL, missing_package

TooLong = Literal["truncate", "error"]

logger = logging.getLogger(__name__)

_VOCABULARIES = (("tokenizer.json",), ("spiece.model",), ("vocab.json", "merges.txt"), ("vocab.txt",))


class Tokens:
    """A tokenizer with a fixed length. `truncated` counts the prompts that lost their end."""

    def __init__(self, folder: Path, length: int, too_long: TooLong = "truncate") -> None:
        self.tokenizer = load_tokenizer(folder)
        self._length, self._too_long = length, too_long
        self.truncated = 0

    def __call__(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(ids, mask that is 1 at real tokens), both (B, M). `UserError` for a long prompt where those are refused."""
        self._look_at_lengths(prompts)
        found = self.tokenizer(
            list(prompts), padding="max_length", max_length=self._length, truncation=True, return_tensors="pt"
        )
        return found.input_ids, found.attention_mask

    def _look_at_lengths(self, prompts: Sequence[str]) -> None:
        lengths = [len(ids) for ids in self.tokenizer(list(prompts), verbose=False).input_ids]
        excess = [(length - self._length, prompt) for length, prompt in zip(lengths, prompts, strict=True)]
        long = [(more, prompt) for more, prompt in excess if more > 0]
        if not long:
            return
        more, prompt = long[0]
        if self._too_long == "error":
            raise UserError(
                f"the prompt '{prompt[:40]}...' is {more} tokens too long", f"shorten it: {self._length} are read"
            )
        before, self.truncated = self.truncated, self.truncated + len(long)
        if len(str(self.truncated)) > len(str(before)) or before == 0:  # at 1, 10, 100, ...: a warning each is noise
            logger.warning("%d prompts so far lost what follows %d tokens", self.truncated, self._length)


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer in a model's folder, or in the one beside it that diffusers' pipelines have."""
    beside = folder.with_name(folder.name.replace("text_encoder", "tokenizer"))
    for place in (folder, beside):
        # Without its files a tokenizer class makes up a vocabulary of special tokens and says nothing.
        if any(all((place / name).is_file() for name in names) for names in _VOCABULARIES):
            if not (place / "tokenizer.json").exists() and (place / "spiece.model").exists():
                _need_sentencepiece(place)
            return _open(place)
    raise UserError(f"{folder} has no tokenizer", "put tokenizer.json, or the vocabulary's own files, into it")


def _need_sentencepiece(place: Path) -> None:
    """Without both packages transformers takes the file for another format, and asks for that one's."""
    for module in ("sentencepiece", "google.protobuf"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise UserError(f"{place / 'spiece.model'} needs the package {module}, which is absent", INSTALL) from error


def _open(place: Path) -> Any:
    try:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(place), local_files_only=True)
    except ImportError as error:
        raise missing_package(error) from error
    except Exception as error:  # the library raises whatever wrong files provoke
        cause = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(f"{place} holds no tokenizer ({cause})", "get the model's folder again") from error
