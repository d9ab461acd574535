"""How well copies of clips are found among others, and what it costs."""
