"""What both ends of the REST interface agree on beside its routes. A leaf: the service imports it, too."""

from __future__ import annotations

RESERVED = ("tier", "order", "limit", "columns", "after", "total", "caption_by", "version", "bins", "column")
"""Parameters with a meaning of their own in routes that take conditions; all others are conditions."""
OF_STATS = ("by",)
OF_SEARCH = ("text", "like", "space")
"""The same in some routes alone."""
MOST_ROWS = 1000
"""Rows of a page at most."""

ARROW = "application/vnd.apache.arrow.stream"
"""Asked for by `Accept`, pages of rows come as an Arrow stream, with the types that they have in the pyramid."""
PAGE = b"ziggurat.page"
"""The key in the metadata of a stream's schema under which the rest of the page stands, as JSON."""
