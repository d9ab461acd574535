"""Vectors of clips: what lies close in a space looks, or reads, alike."""
