"""Text models of a few kilobytes: folders as transformers saves them, with random weights and a vocabulary of words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = "a red fox dog runs over the snow at night while it rains".split()
T5_WIDTH, CLIP_WIDTH = 32, 24


def t5(folder: Path, seed: int = 0) -> Path:
    import torch
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"d_model": T5_WIDTH, "d_kv": 8, "d_ff": 48, "num_heads": 4, "vocab_size": 32}
    # The released model's heads do not scale scores; with weights as small as these all states would look alike.
    config = T5Config(**sizes, num_layers=2, feed_forward_proj="gated-gelu", initializer_factor=4.0)
    T5EncoderModel(config).save_pretrained(folder)
    _tokenizer(["<pad>", "</s>", "<unk>"], "$A </s>", pad_token="<pad>", eos_token="</s>").save_pretrained(folder)
    return folder


def clip(folder: Path, seed: int = 0, tokens: int = 77) -> Path:
    import torch
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    CLIPTextModel(clip_config(CLIPTextConfig, tokens)).save_pretrained(folder)
    clip_tokenizer(tokens).save_pretrained(folder)
    return folder


def clip_config(kind: Any, tokens: int = 77) -> Any:
    sizes = {"hidden_size": CLIP_WIDTH, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return kind(**sizes, **special, vocab_size=32, max_position_embeddings=tokens, projection_dim=CLIP_WIDTH)


def clip_tokenizer(tokens: int = 77) -> Any:
    start, end = "<|startoftext|>", "<|endoftext|>"
    special = {"bos_token": start, "eos_token": end, "pad_token": end, "model_max_length": tokens}
    return _tokenizer([start, end, "<unk>"], f"{start} $A {end}", **special)


def _tokenizer(special: list[str], template: str, **options: Any) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    ends = [(token, vocabulary[token]) for token in special if token in template]
    made.post_processor = processors.TemplateProcessing(  # pyright: ignore[reportAttributeAccessIssue]
        single=template, special_tokens=ends
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", **options)
