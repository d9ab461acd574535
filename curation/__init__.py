"""Turning raw video into scored clips: plain functions and classes, no Ray, no web, no training."""
