"""A client of the service, and the commands' answers by it: `client` first. Nothing here imports the service."""
