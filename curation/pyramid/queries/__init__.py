"""Questions to a pyramid, and their answers in any form."""
