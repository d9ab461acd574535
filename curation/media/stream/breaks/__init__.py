"""Where material breaks and no decoder tells: by the clock, by codes in the stream, by the file. `losses` is first."""
