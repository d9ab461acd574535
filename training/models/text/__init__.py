"""Text encoders, each a `training.models.base.TextEncoder`: prompts to a state a token and one vector.

The modules:

    tokenizer  prompts to token ids of one length, and what becomes of a prompt that is too long
    t5_clip    T5-XXL states and CLIP's pooled vector: what the public model was trained with
    embedded   a sentence encoder that ships in a package: no network, no GPU
    cache      states kept on disk, so that a prompt is encoded once
"""
