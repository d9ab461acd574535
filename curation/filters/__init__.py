"""One filter a file, listed in `table`: each measures scores, and decides nothing. Thresholds live in tiers."""
