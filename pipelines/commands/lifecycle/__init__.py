"""Commands about a pyramid as a whole: `app` takes them in."""
