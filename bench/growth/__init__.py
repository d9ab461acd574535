"""What a pyramid's size costs a run."""
