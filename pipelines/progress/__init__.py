"""What is seen of a run while it works: `display` for people and machines, an estimate, a word on what stalls."""
