"""A vision-language model of the real architecture that weighs nothing: Qwen2.5-VL with random weights and a tokenizer
of bytes, as a folder that vLLM and transformers load. What it says is noise, and the way there is real.

    python -m tests.support.tiny_vlm FOLDER [--text]      # in vLLM's environment

`--text` makes one that sees nothing, of the same tokenizer. Imports torch and transformers where it makes something.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>")
SPECIAL += ("<|image_pad|>", "<|video_pad|>")
VOCABULARY, CONTEXT = 320, 4096
PATCH = 14
"""Pixels of a side; four patches are one token."""

CHAT = """{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{% if part.type == 'text' %}{{ part.text }}{% else %}<|vision_start|><|image_pad|><|vision_end|>{% endif %}
{%- endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def make(folder: Path, seed: int = 0) -> None:
    """Write the model, its tokenizer and its processor into a folder."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    network = Qwen2_5_VLForConditionalGeneration(_config(tokenizer)).to(torch.bfloat16).eval()
    _save(network, tokenizer, folder)
    _processor(tokenizer).save_pretrained(folder)


def make_text(folder: Path, seed: int = 0) -> None:
    """The same of a model that sees nothing."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, **sizes)
    _save(LlamaForCausalLM(config).to(torch.bfloat16).eval(), tokenizer, folder)


def _save(network: Any, tokenizer: Any, folder: Path) -> None:
    end, pad = (tokenizer.convert_tokens_to_ids(name) for name in ("<|im_end|>", "<|endoftext|>"))
    network.generation_config.eos_token_id, network.generation_config.pad_token_id = end, pad
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _tokenizer() -> Any:
    """Every byte is a token."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={one: number for number, one in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:]),
        model_max_length=CONTEXT,
    )
    tokenizer.chat_template = CHAT
    return tokenizer


def _config(tokenizer: Any) -> Any:
    from transformers import Qwen2_5_VLConfig

    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "rope_parameters": {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 10_000.0},
        "bos_token_id": ids["<|im_start|>"],
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "tie_word_embeddings": False,
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "num_heads": 2,
        "intermediate_size": 128,
        "patch_size": PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 128,
        "window_size": 4 * PATCH,
        "fullatt_block_indexes": [1],
        "tokens_per_second": 2,
    }
    named = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    tokens = {key: ids[name] for key, name in named.items()}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False, **tokens)


def _processor(tokenizer: Any) -> Any:
    from transformers import Qwen2_5_VLProcessor, Qwen2VLImageProcessor
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    size = {"shortest_edge": (2 * PATCH) ** 2, "longest_edge": 4 * (4 * PATCH) ** 2}
    patches = {"size": size, "patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2}
    pictures, videos = Qwen2VLImageProcessor(**patches), Qwen2VLVideoProcessor(**patches, min_frames=2, max_frames=16)
    return Qwen2_5_VLProcessor(
        image_processor=pictures, tokenizer=tokenizer, video_processor=videos, chat_template=CHAT
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text", action="store_true", help="a model that sees nothing")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    (make_text if options.text else make)(options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
