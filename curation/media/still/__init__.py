"""Images: from the bytes of a still picture to its one clip, and to what is stored of it."""
