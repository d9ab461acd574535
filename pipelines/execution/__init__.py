"""Who runs the stages: Ray Data, claims, commits, attempts, records. Start with `jobs`."""
