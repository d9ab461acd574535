"""Batch sizes searched on the machine that will train, so that all steps take the same time."""
