"""Clips that are alike: vectors of the spaces, their index, and the search in them."""
