"""Checkpoints: saved whole or not at all, read only by who may, never as a pickle. `folder` says what lies where."""
