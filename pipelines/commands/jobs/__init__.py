"""Commands around jobs on a Ray cluster: `submit`, `jobs`, `logs`, `cancel`, and `retry`."""
