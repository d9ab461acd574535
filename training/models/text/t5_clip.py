"""T5-XXL and CLIP ViT-L/14, the public model's text encoders (spec section 3, "Text").

T5's last hidden state of 512 tokens is what the text stream reads, CLIP's pooled vector modulates every block. T5 runs
without an attention mask and the pads' states are kept, as in training of the public model. CLIP reads 77 tokens and
never more: of a longer prompt it sees the beginning, as the public model does, and T5 alone sees the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch

from training.models.base import TextStates
from training.models.pretrained import fingerprint, locate_folder, missing_package, pretrained
from training.models.text.tokenizer import Tokens, TooLong

VERSION = 1
T5_TOKENS, CLIP_TOKENS = 512, 77


class T5Clip:
    """`base.TextEncoder`: tokens (B, 512, 4096) and pooled (B, 768), in the weights' dtype.

    `t5`, `clip`: folders, or `hub:OWNER/NAME[/FOLDER]`. `too_long` is about T5's tokens. Raises `UserError` where a
    package, a file or a weight is missing.
    """

    def __init__(
        self,
        t5: str | Path,
        clip: str | Path,
        *,
        dtype: torch.dtype = torch.bfloat16,
        device: torch.device | str = "cpu",
        t5_tokens: int = T5_TOKENS,
        too_long: TooLong = "truncate",
    ) -> None:
        try:
            from transformers import CLIPTextModel, T5EncoderModel
        except ImportError as error:
            raise missing_package(error) from error
        self._folders = (locate_folder(t5, "the T5 encoder"), locate_folder(clip, "CLIP's text encoder"))
        self._settings = {"t5_tokens": t5_tokens, "too_long": too_long, "dtype": str(dtype), "version": VERSION}
        self.device = torch.device(device)
        self.t5_tokens = Tokens(self._folders[0], t5_tokens, too_long)
        self._clip_tokens = _ClipTokens(self._folders[1], CLIP_TOKENS)
        self._t5 = pretrained(T5EncoderModel, self._folders[0], "a T5 encoder", dtype=dtype).to(self.device)
        self._clip = pretrained(CLIPTextModel, self._folders[1], "a CLIP text encoder", dtype=dtype).to(self.device)

    @property
    def widths(self) -> tuple[int, int]:
        """Channels of a token's state, T5's, and of the pooled vector, CLIP's."""
        return self._t5.config.d_model, self._clip.config.hidden_size

    @cached_property
    def fingerprint(self) -> str:
        """Of the weights, vocabularies and settings; reads them all."""
        return fingerprint(self._folders, self._settings | {"encoder": "t5_clip"})

    @property
    def truncated(self) -> int:
        """How many prompts lost their end, of what T5 reads."""
        return self.t5_tokens.truncated

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> TextStates:
        t5_ids, _ = self.t5_tokens(prompts)
        clip_ids, _ = self._clip_tokens(prompts)
        states = self._t5(input_ids=t5_ids.to(self.device)).last_hidden_state
        return TextStates(states, self._clip(input_ids=clip_ids.to(self.device)).pooler_output)


class _ClipTokens(Tokens):
    """CLIP's 77 tokens are no limit on a prompt, so nothing is counted or refused."""

    def _look_at_lengths(self, prompts: Sequence[str]) -> None: ...
