"""Shards for training: what a run reads is named once and never changes."""
