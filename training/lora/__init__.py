"""Adapters of low rank (LoRA): trained in the place of a network's weights, merged into them, extracted, exported.

    spec, targets   what is asked for, and which layers a short name means
    inject          peft's layers in the network; the adapter out of it again
    adapter, files  the adapter as data, and on the disk in peft's format; trained: out of a run's checkpoint
    base            the frozen weights: where they are, and the hash that names them
    merge, extract, diffusers   into plain weights; out of two of them; to `FluxTransformer2DModel`

Only `inject` needs the package peft.
"""
