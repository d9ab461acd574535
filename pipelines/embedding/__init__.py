"""Which spaces a recipe fills, and by what: blocks of `[[embeddings]]` as a run and a search see them."""
