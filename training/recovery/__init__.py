"""Keeping a run going: which rank is silent or slow, whether data or hardware are wrong, and what is left out."""
