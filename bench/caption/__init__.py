"""What captions cost: `python -m bench.caption`."""
