"""What is done to a whole pyramid: upkeep, migration, merging."""
