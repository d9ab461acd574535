"""Where Ray, the command line and the recipes live. Start with `curate.py`."""
