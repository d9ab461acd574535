"""Tests of the sound of clips."""
