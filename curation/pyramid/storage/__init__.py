"""Where a pyramid lies and what its datasets are: files, locks, retries, and the transactions of Lance."""
