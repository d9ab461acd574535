"""Figures of `ziggurat stats`: `pages` says which there are, `bars` and `cloud` draw, `canvas` makes files of them."""
