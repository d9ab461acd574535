"""How well shots are found on labelled video."""
