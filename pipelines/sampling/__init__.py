"""`ziggurat sample`: files in, files out, and lines that make them again; the networks are in `training`."""
