"""Frames of a manifest's samples, out of the pyramid and through the sandbox: `stored` for any reader, `clips` for the
trainer."""
