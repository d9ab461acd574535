"""Clips for other programs, in the layouts that trainers and viewers read. `export` does it: start there."""
