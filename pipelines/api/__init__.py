"""The REST service of a pyramid. `app` puts it together: start there."""
