"""Attention for Hopper in Gluon: a producer that loads, two consumers that multiply, beside the Triton kernels.

Same results, same arguments, for head dimension 128 in 16 bits by TMA. `core` takes them where the settings say that
they have been faster (`Config.chosen`). `pipeline` is what the three kernels share: read it first.
"""
