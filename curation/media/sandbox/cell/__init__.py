"""What the decoder process gives up once its libraries are loaded: files by Landlock, calls by seccomp."""
