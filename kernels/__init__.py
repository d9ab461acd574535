"""Triton kernels. Imports nothing of ours."""
