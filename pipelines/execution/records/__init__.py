"""What is kept and told of a run beside its figures: its record, and what a person should know."""
