"""Captions of clips by a model: what is asked, who is asked, and what of an answer becomes a caption."""
