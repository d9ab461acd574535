"""Training of video generation models on a frozen tier."""
