"""How rows come in: what a commit writes, in which order, and what makes it safe to do twice."""
