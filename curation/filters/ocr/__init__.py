"""Text area: `text_area` is the filter, `rapid` and `paddle` find and read text for it, `table` puts them together."""
