"""Frame measures: what the measuring pass streams over the frames of a clip."""
