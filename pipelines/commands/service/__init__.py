"""Commands around the service: `serve` runs it, `tokens` says who is let in."""
