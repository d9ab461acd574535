"""Encoding: where latents are written, what became of the samples, and what a person sees of it."""
