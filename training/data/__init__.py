"""What a batch is made of: sizes by aspect, buckets, and the table that says how many of each."""
