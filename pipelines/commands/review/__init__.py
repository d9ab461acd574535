"""Commands by which people speak of clips: `keep`, `drop`, `undecide`, `tag`."""
