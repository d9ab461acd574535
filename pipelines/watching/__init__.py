"""Training runs as they are seen from outside: which there are, how far each is, curves, videos. Read `runs` first."""
