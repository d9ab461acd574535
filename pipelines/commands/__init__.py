"""One module a command, called by `pipelines.cli` with what was typed."""
