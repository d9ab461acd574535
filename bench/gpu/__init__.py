"""Every kernel on a GPU beside torch."""
