"""A vision-language model of the real architecture that weighs nothing: Qwen2.5-VL with random weights and a tokenizer
of bytes, as a folder that vLLM and transformers load.

    python -m tests.support.tiny_vlm FOLDER [--text]      # in vLLM's environment

It has learnt nothing, but its last layer is written so that it says `SENTENCES`, each of which is a token: which ones
hangs on what attention makes of the pictures, so clips are told apart. Where a schema is enforced it knows what
follows what in JSON. `--text` makes a model that sees nothing. Imports torch and transformers where it makes something.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>")
SPECIAL += ("<|image_pad|>", "<|video_pad|>")
VOCABULARY, CONTEXT, WIDTH = 320, 4096, 128
ANIMALS = ("fox", "dog", "cat", "hen", "cow", "owl", "bee", "elk")
SENTENCES = tuple(f"A {one} {does}." for one in ANIMALS for does in ("runs over the snow", "sleeps in the sun"))
"""What it may say. Each is one token."""

FOLLOWS = (
    *(("\n", one, 24.0) for one in SENTENCES),
    *(('"', one, 24.0) for one in SENTENCES),
    *((one, "<|im_end|>", 60.0) for one in SENTENCES),
    *((one, '"', 30.0) for one in SENTENCES),
    *(("\n", "{", 12.0), ("{", '"', 24.0), (",", '"', 24.0), (":", '"', 24.0)),
    *(('"', ":", 14.0), ('"', ",", 12.0), ('"', "}", 10.0), ("}", "<|im_end|>", 24.0)),
)
"""A token, one that may come next, and how much so: of several that a schema allows, the likeliest does."""
PATCH = 14
"""Pixels of a side; four patches are one token."""

CHAT = """{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content -%}
{% if part.type == 'text' %}{{ part.text }}{% else %}<|vision_start|><|image_pad|><|vision_end|>{% endif %}
{%- endfor %}{% endif %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def is_its(text: str) -> bool:
    """Whether a text may be the model's: sentences of its own, one or several."""
    return bool(text) and {f"{part}." for part in text.split(".") if part} <= {*SENTENCES}


def make(folder: Path, seed: int = 0) -> None:
    """Write the model, its tokenizer and its processor into a folder."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    network: Any = Qwen2_5_VLForConditionalGeneration(_config(tokenizer))
    network = network.to(torch.float32).eval()
    _teach(network, tokenizer)
    _save(network, tokenizer, folder)
    _processor(tokenizer).save_pretrained(folder)


def make_text(folder: Path, seed: int = 0) -> None:
    """The same of a model that sees nothing."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    network: Any = LlamaForCausalLM
    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=CONTEXT, **sizes)
    _save(network(config).to(torch.bfloat16).eval(), tokenizer, folder)


def _teach(network: Any, tokenizer: Any) -> None:
    """Write `FOLLOWS` into the last layer: a token's row points to the embeddings of those that it follows. What is
    left of a sentence's row, across those, chooses by what attention has added: so that counts for more than it would.
    """
    import torch

    ids = {name: tokenizer.encode(name, add_special_tokens=False) for pair in FOLLOWS for name in pair[:2]}
    assert all(len(found) == 1 for found in ids.values()), "each is one token"
    with torch.no_grad():
        embeddings, rows = network.get_input_embeddings().weight, network.get_output_embeddings().weight
        embeddings.normal_()
        rows.normal_(std=0.01)
        before = torch.linalg.qr(torch.stack([embeddings[ids[name][0]] for name in ("\n", '"')]).T)[0]
        for name in SENTENCES:
            free = 0.3 * torch.randn(WIDTH)
            rows[ids[name][0]] = free - before @ (before.T @ free)
        for first, then, weight in FOLLOWS:
            rows[ids[then][0]] += weight / WIDTH * embeddings[ids[first][0]]
        for layer in network.model.language_model.layers:
            for part in (layer.self_attn.v_proj, layer.self_attn.o_proj):
                part.weight.mul_(6.0)


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
    made.add_tokens([AddedToken(name, normalized=False) for name in SENTENCES])
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
    text: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
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
    vision: dict[str, Any] = {
        "depth": 2,
        "hidden_size": 64,
        "num_heads": 2,
        "intermediate_size": 128,
        "patch_size": PATCH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": WIDTH,
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
    patches: dict[str, Any] = {"size": size, "patch_size": PATCH, "merge_size": 2, "temporal_patch_size": 2}
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
