"""The page of the service: drawn by the server, no build step. `pages` has its routes: start there."""
