"""One filter a file: each measures one score. Thresholds live in tiers."""
