"""The networks, and the types that sampling and training know them by (`base`)."""
