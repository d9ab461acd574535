"""Removing videos for ever."""
