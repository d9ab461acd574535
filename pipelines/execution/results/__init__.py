"""Results of the stages on their way into the pyramid, and what a run has come to: start with `committer`."""
