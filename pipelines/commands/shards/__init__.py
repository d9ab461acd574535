"""Commands from a tier to what training reads: `app` takes them in."""
